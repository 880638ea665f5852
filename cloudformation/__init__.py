"""The CloudFormation templates, one per lifetime; `deploy` finds them by importlib.resources."""
