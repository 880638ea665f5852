"""What a task is made of: processes of this machine, or containers of its Docker."""
