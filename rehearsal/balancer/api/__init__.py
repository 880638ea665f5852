"""The actions of the ELBv2 API. Each public method is one: it takes the request, and gives what the response holds.

https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/
"""
