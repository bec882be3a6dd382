from PIL import Image

from palitune.report.images.inline import encode_image


def test_an_image_is_inside_the_page_at_its_size() -> None:
    image = encode_image(Image.new("RGB", (30, 20)), "a boat", caption="after", note="1 object")
    assert image.data_uri.startswith("data:image/webp;base64,")
    assert (image.width, image.height, image.alt) == (30, 20, "a boat")
    assert (image.caption, image.note) == ("after", "1 object")
