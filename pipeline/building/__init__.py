"""What an image is made of and how: the context, git's identity of it, OCI layers in Python, Docker."""
