"""A tensor for each datatype of the protocol, as the clients' programs send it: no import but numpy's."""

import numpy as np

ROWS = 800  # so many that an answer is worth its compression


def _sample(*values: object, dtype: object) -> np.ndarray:
    return np.resize(np.array(values, dtype=dtype), (ROWS, 2))


SAMPLES = {
    "BOOL": _sample(True, False, True, dtype=np.bool_),
    "UINT8": _sample(0, 7, 2**8 - 1, dtype=np.uint8),
    "UINT16": _sample(0, 7, 2**16 - 1, dtype=np.uint16),
    "UINT32": _sample(0, 7, 2**32 - 1, dtype=np.uint32),
    "UINT64": _sample(0, 7, 2**64 - 1, dtype=np.uint64),
    "INT8": _sample(-(2**7), 0, 2**7 - 1, dtype=np.int8),
    "INT16": _sample(-(2**15), 0, 2**15 - 1, dtype=np.int16),
    "INT32": _sample(-(2**31), 0, 2**31 - 1, dtype=np.int32),
    "INT64": _sample(-(2**63), 0, 2**63 - 1, dtype=np.int64),
    "FP16": _sample(-65504, 0.1, 6e-8, dtype=np.float16),
    "FP32": _sample(-3.4e38, 0.1, 1e-45, dtype=np.float32),
    "FP64": _sample(-1.7e308, 0.1, 5e-324, dtype=np.float64),
    "BYTES": _sample("grün", "", 'a "quoted"\nline', dtype=np.object_),
}
NOT_NUMBERS = np.array([[np.nan, np.inf], [-np.inf, 0.5]], np.float32)


def is_same(sent: np.ndarray, came: np.ndarray) -> bool:
    """Whether the same elements came back; strings come as bytes from some clients."""
    if sent.dtype == np.object_:
        texts = [element.decode() if isinstance(element, bytes) else element for element in came.reshape(-1)]
        return sent.shape == came.shape and sent.reshape(-1).tolist() == texts
    return sent.dtype == came.dtype and sent.shape == came.shape and sent.tobytes() == came.tobytes()
