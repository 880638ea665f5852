"""Images as requests of /predict: a raw image or a form of them, decoded and preprocessed as the manifest declares.

    body -> forms (multipart) -> decoding (Pillow, upright, in the recipe's colour) -> transforming -> one array

`recipe` holds the declaration and what it takes to fit the model; all functions are pure.
"""
