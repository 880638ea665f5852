"""Images over real HTTP, to real models."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from PIL import Image

from tests.model_service.conftest import Launch, Reply, Service, describe_file, graph, identity, write_manifest
from tests.model_service.images.files import FORM_TYPE, bomb, encoded, form, noise, png

DIGITS = {"color": "L", "resize": {"size": [8, 8]}, "layout": "flat"}


def post_form(service: Service, *parts: tuple[str, str | None, bytes], path: str = "/predict") -> Reply:
    return service.post(path, form(*parts), {"Content-Type": FORM_TYPE})


def post_image(service: Service, content: bytes, kind: str = "image/png", path: str = "/predict") -> Reply:
    return service.post(path, content, {"Content-Type": kind})


def answers(reply: Reply) -> dict[str, Any]:
    """The body without the time that it took."""
    assert 200 == reply.status, reply.body
    return {name: value for name, value in reply.json.items() if name != "processing_time_ms"}


@pytest.fixture(scope="module")
def digit_files(digits_rows: np.ndarray) -> list[bytes]:
    """The digits as 8 x 8 PNG files, 0 to 16 as grey levels 0 to 16."""
    return [png(row.reshape(8, 8).astype(np.uint8)) for row in digits_rows]


@pytest.fixture(scope="module")
def digit_images(launch: Launch, digits_manifest: Path) -> Service:
    """The digits model, taking images too."""
    manifest = json.loads(digits_manifest.read_text())
    manifest["predict"]["preprocessing"] = DIGITS
    path = digits_manifest.with_name("images.json")
    path.write_text(json.dumps(manifest))
    limits = {"MAX_IMAGES": "3", "MAX_IMAGE_PIXELS": "1000000", "MAX_BODY_BYTES": "3000000"}
    return launch(path, **limits).wait_ready()


@pytest.fixture(scope="module")
def tinter(launch: Launch, tmp_path_factory: pytest.TempPathFactory) -> Service:
    """Logits that are the sums of red, green and blue, [N, 3, 2, 2] -> [N, 3], with their labels in a file."""
    directory = tmp_path_factory.mktemp("tinter")
    directory.joinpath("labels.txt").write_text("red\ngreen\nblue\n")
    shapes = {"x": (TensorProto.FLOAT, ["N", 3, 2, 2])}, {"logits": (TensorProto.FLOAT, ["N", 3])}
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])
    nodes = [
        helper.make_node("Constant", [], ["axes"], value=axes),
        helper.make_node("ReduceSum", ["x", "axes"], ["logits"], keepdims=0),
    ]
    predict = {
        "probabilities": "logits",
        "activation": "softmax",
        "labels": "labels.txt",
        "preprocessing": {"layout": "NCHW", "resize": {"size": [2, 2]}, "rescale": 1 / 255},
    }
    model = graph(nodes, *shapes)
    path = write_manifest(directory, model, predict=predict)
    manifest = json.loads(path.read_text())
    manifest["files"].append(describe_file(directory / "labels.txt"))
    path.write_text(json.dumps(manifest))
    return launch(path).wait_ready()


def test_a_digit_as_a_file_is_the_digit_as_numbers(
    digit_images: Service, digit_files: list[bytes], digits_rows: np.ndarray
) -> None:
    """An 8 x 8 PNG in a form gives exactly what its 64 numbers give as JSON."""
    for file, row in zip(digit_files, digits_rows, strict=True):
        as_numbers = answers(digit_images.post("/predict", {"input": row.tolist()}))

        assert as_numbers == answers(post_form(digit_images, ("file", "digit.png", file)))


def test_a_bare_image_is_the_image_in_a_form(digit_images: Service, digit_files: list[bytes]) -> None:
    """`curl --data-binary @digit.png -H 'Content-Type: image/png'`."""
    in_form = answers(post_form(digit_images, ("file", "digit.png", digit_files[5])))

    assert in_form == answers(post_image(digit_images, digit_files[5]))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP"])
def test_an_image_that_does_not_say_so_is_told_to(digit_images: Service, kind: str) -> None:
    """A body without a Content-Type is JSON; one that begins as an image is refused with the header that it needs."""
    reply = digit_images.post("/predict", encoded(Image.new("L", (8, 8)), kind))
    words = f"the body is an image: send it with `Content-Type: image/{kind.lower()}`"
    assert (400, {"error": words}) == (reply.status, reply.json)


def test_several_files_are_a_batch(digit_images: Service, digit_files: list[bytes]) -> None:
    """In their order, whatever the parts are called, and each in its own format."""
    as_bmp = encoded(Image.open(io.BytesIO(digit_files[1])), "BMP")

    together = answers(
        post_form(digit_images, ("a", "0", digit_files[0]), ("b", "1", as_bmp), ("a", "2", digit_files[2]))
    )

    alone = [answers(post_image(digit_images, file)) for file in digit_files[:3]]
    assert [one["prediction"] for one in alone] == [one["prediction"] for one in together["predictions"]]


def test_the_most_likely_classes_by_their_labels(tinter: Service) -> None:
    """A violet picture: labels, indices and probabilities of logits, the most likely first."""
    violet = png(np.full((5, 5, 3), (51, 0, 102), np.uint8))

    answer = answers(post_form(tinter, ("file", "violet.png", violet), ("top_k", None, b"2")))

    powers = np.exp(4 * np.array([51, 0, 102]) / 255)
    shares = powers / powers.sum()
    assert ["prediction", "confidence", "top_k", "model", "version"] == list(answer)
    assert ("blue", pytest.approx(shares[2], rel=1e-5)) == (answer["prediction"], answer["confidence"])
    assert [("blue", 2), ("red", 0)] == [(one["label"], one["index"]) for one in answer["top_k"]]
    np.testing.assert_allclose([one["confidence"] for one in answer["top_k"]], [shares[2], shares[0]], rtol=1e-5)


@pytest.mark.parametrize("form_of_top_k", ["query", "member"])
def test_json_asks_for_the_most_likely_classes_too(tinter: Service, form_of_top_k: str) -> None:
    """`?top_k=1` or a member of the body; for each row of several."""
    rows = [np.full((3, 2, 2), 0.0).tolist(), np.stack([np.eye(2), np.ones((2, 2)), np.eye(2)]).tolist()]
    query, member = ("?top_k=1", {}) if form_of_top_k == "query" else ("", {"top_k": 1})

    found = answers(tinter.post(f"/predict{query}", {"inputs": rows} | member))["predictions"]

    assert [["red"], ["green"]] == [[one["label"] for one in row["top_k"]] for row in found]


def test_a_form_of_no_images_is_refused(digit_images: Service) -> None:
    """A form with fields alone asks nothing."""
    reply = post_form(digit_images, ("top_k", None, b"2"))

    assert (400, {"error": "the form has no file"}) == (reply.status, reply.json)


@pytest.mark.parametrize(
    ("content", "kind", "status", "words"),
    [
        (b"", "image/png", 400, "the image is empty"),
        (b"hello", "image/png", 415, "is none of JPEG, PNG, WEBP, BMP, GIF"),
        (png(noise(8, 8)), "image/tiff", 415, "image/tiff is not taken"),
        (png(noise(8, 8)), "image/svg+xml", 415, "image/svg+xml is not taken"),
        (png(noise(64, 64))[:900], "IMAGE/PNG; q=1", 400, "is broken or truncated"),
        (bomb(4000, 4000), "image/png", 413, "has 4000 x 4000 pixels; at most 1000000"),
        (form(*[("f", "f.png", png(noise(8, 8)))] * 4), FORM_TYPE, 400, "at most 3 files"),
        (form(("f", "1", png(noise(8, 8))), ("f", "2", b"?")), FORM_TYPE, 415, "image 2 is none of"),
        (form(("f", "1", png(noise(8, 8))), ("top_k", None, b"all")), FORM_TYPE, 400, "top_k is not a whole number"),
        (b"garbage", FORM_TYPE, 400, "is no multipart/form-data"),
    ],
)
def test_what_cannot_be_read_is_refused(
    digit_images: Service, content: bytes, kind: str, status: int, words: str
) -> None:
    """With the status that says why, {"error"}, and no word of where this runs."""
    reply = post_image(digit_images, content, kind)

    assert (status, ["error"]) == (reply.status, list(reply.json))
    assert words in reply.json["error"]
    assert "/" not in reply.json["error"].replace("multipart/form-data", "").replace("image/", "")


@pytest.mark.parametrize("kind", ["image/png", FORM_TYPE])
def test_a_model_without_preprocessing_takes_no_images(digits: Service, kind: str) -> None:
    """415 says that it is the manifest that lacks it."""
    reply = post_image(digits, png(noise(8, 8)), kind)

    assert 415 == reply.status
    assert "declares no preprocessing" in reply.json["error"]


def test_images_of_different_sizes_make_no_batch(launch: Launch, tmp_path: Path) -> None:
    """Where the model takes any size, all images of a form need the same."""
    model = identity(TensorProto.UINT8, ["N", "H", "W", 3])
    service = launch(write_manifest(tmp_path, model, predict={"preprocessing": {"layout": "NHWC"}})).wait_ready()
    small, large = noise(2, 3), noise(3, 3)

    alone = post_image(service, png(small))
    together = post_form(service, ("f", "1", png(small)), ("f", "2", png(large)))

    assert small.tolist() == alone.json["prediction"]
    assert (400, "the images have different sizes after their preprocessing; send them one by one") == (
        together.status,
        together.json["error"],
    )


def test_a_fixed_batch_takes_just_as_many(launch: Launch, tmp_path: Path) -> None:
    """A model exported for one image at a time refuses two by its shape."""
    model = identity(TensorProto.FLOAT16, [1, 3, 2, 2])
    service = launch(write_manifest(tmp_path, model, predict={"preprocessing": {"layout": "NCHW"}})).wait_ready()
    file = png(noise(2, 2))

    assert 200 == post_image(service, file).status
    assert 400 == post_form(service, ("f", "1", file), ("f", "2", file)).status


@pytest.mark.parametrize(
    ("predict", "words"),
    [
        ({"preprocessing": {"layout": "NCHW"}}, "layout NCHW has 4 axes; `x` is [-1, 64]"),
        ({"preprocessing": {"layout": "flat", "sharpen": 1}}, "unknown field `sharpen`"),
        ({"labels": ["a"], "probabilities": "y"}, "has 1 labels; `y` has 64 classes"),
        ({"labels": "labels.txt", "probabilities": "y"}, "`labels.txt`, which is none of its files"),
        ({"activation": "softmax"}, "predict.activation needs predict.probabilities"),
        ({"activation": "sigmoid"}, "Invalid enum value 'sigmoid'"),
    ],
)
def test_a_declaration_that_does_not_fit_stops_the_start(
    launch: Launch, tmp_path: Path, predict: dict[str, Any], words: str
) -> None:
    """The first caller does not have to find out."""
    service = launch(write_manifest(tmp_path, identity(TensorProto.FLOAT, [None, 64]), predict=predict))

    assert 1 == service.process.wait(30)
    assert words in service.log()[-1]["message"]


def test_top_k_needs_probabilities(adder: Service) -> None:
    """A regression has no classes."""
    reply = adder.post("/predict?top_k=2", {"input": {"a": [1, 2], "b": [3, 4]}})

    assert 400 == reply.status
    assert "names no probabilities" in reply.json["error"]


def test_the_users_own_preprocess_reads_images_itself(launch: Launch, digits_manifest: Path) -> None:
    """service.py comes before the manifest: it gets the body and its Content-Type as they are."""
    code = """
import numpy as np
import onnx
import onnxruntime
def preprocess(request, content_type):
    assert content_type == "image/tiff"
    return {"X": np.full((1, 64), len(request), np.float32)}
"""
    service = launch(digits_manifest, code=code).wait_ready()

    assert 200 == post_image(service, b"abc", "image/tiff", "/predict?top_k=1").status


def test_openapi_offers_what_the_model_takes(digit_images: Service, digits: Service) -> None:
    """Forms and images only where preprocessing is declared; top_k where there are probabilities."""
    with_images = digit_images.get("/openapi.json").json["paths"]["/predict"]["post"]
    without = digits.get("/openapi.json").json["paths"]["/predict"]["post"]

    assert {
        "application/json",
        "multipart/form-data",
        "image/jpeg",
        "image/png",
        "image/webp",
        "image/bmp",
        "image/gif",
    } == set(with_images["requestBody"]["content"])
    assert ["application/json"] == list(without["requestBody"]["content"])
    assert ["top_k"] == [parameter["name"] for parameter in without["parameters"]]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.one_of(
        st.binary(max_size=400),
        st.binary(max_size=100).map(lambda noise: form(("f", "f.png", png(np.zeros((8, 8), np.uint8))[:60] + noise))),
        st.integers(0, 500).map(lambda place: form(("f", "f.png", png(np.zeros((8, 8), np.uint8))))[:place]),
    ),
    kind=st.sampled_from(["image/png", "image/webp", FORM_TYPE, "multipart/form-data", "image/", 'image/\xe9;;="']),
)
def test_random_bodies_are_the_callers_fault(digit_images: Service, content: bytes, kind: str) -> None:
    """Never a 500."""
    reply = post_image(digit_images, content, kind)

    assert reply.status in (200, 400, 413, 415)
    assert reply.status == 200 or ["error"] == list(reply.json)


def test_a_photo_through_squeezenet(launch: Launch, tmp_path: Path) -> None:
    """From a turned JPEG to five labels the server gives what Pillow, numpy and ONNX Runtime give by hand."""
    file = Path(onnx.__file__).parent / "backend/test/data/light/light_squeezenet.onnx"
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    recipe = {
        "resize": {"shortest_edge": 256, "interpolation": "bicubic"},
        "center_crop": [224, 224],
        "rescale": 1 / 255,
        "mean": mean.tolist(),
        "std": std.tolist(),
        "layout": "NCHW",
    }
    labels = [f"class {index}" for index in range(1000)]
    predict = {"probabilities": "softmaxout_1", "labels": labels, "preprocessing": recipe}
    service = launch(write_manifest(tmp_path, file.read_bytes(), predict=predict)).wait_ready()
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = encoded(Image.fromarray(noise(300, 420)), "JPEG", exif=exif)

    answer = answers(post_image(service, photo, "image/jpeg", "/predict?top_k=5"))

    upright = (
        Image.open(io.BytesIO(photo)).transpose(Image.Transpose.ROTATE_270).resize((256, 358), Image.Resampling.BICUBIC)
    )
    pixels = np.asarray(upright)[67:291, 16:240] * np.float32(1 / 255)
    row = ((pixels - mean) / std).transpose(2, 0, 1)[None]
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    expected = session.run(["softmaxout_1"], {"data_0": row})[0].reshape(-1)
    best = np.argsort(-expected)[:5]
    assert [f"class {index}" for index in best] == [one["label"] for one in answer["top_k"]]
    np.testing.assert_allclose([one["confidence"] for one in answer["top_k"]], expected[best], rtol=1e-4)
