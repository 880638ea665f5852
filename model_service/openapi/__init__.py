"""/openapi.json, made from the signatures of the models that are served, with examples that can be sent as they stand.

`document` puts together what `infer` and `predict` say of inference, in the words of `operations` and `tensors`.
"""
