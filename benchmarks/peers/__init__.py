"""The servers that the model service is compared with: each with the settings that made it fastest here."""
