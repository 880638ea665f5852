"""CloudFormation as the rehearsal knows it: templates, plans, operations over time, and one module per AWS service."""
