from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris

from storage.errors import StoreError
from tasks.readers import guess_reader, open_reader
from tasks.readers.sklearn_sets import NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_set_is_read_whole(name: str) -> None:
    assert guess_reader(f"sklearn:{name}") == "sklearn"
    reader = open_reader("sklearn", f"sklearn:{name}", {})
    schema = reader.schema()
    assert schema.modality == ("image" if name == "digits" else "tabular")
    assert schema.task == ("regression" if name == "diabetes" else "classification")
    assert sum(len(chunk.rows) for chunk in reader.chunks()) == schema.num_rows
    assert reader.skipped.num_rows == 0
    assert reader.files() == []


def test_rows_and_labels_are_the_librarys() -> None:
    (chunk,) = open_reader("sklearn", "sklearn:iris", {}).chunks(150)
    bunch = load_iris()
    np.testing.assert_array_equal(np.stack(chunk.rows), bunch.data.astype(np.float32))  # type: ignore[arg-type]
    np.testing.assert_array_equal(chunk.labels, bunch.target)


def test_digits_are_images_from_black_to_white() -> None:
    chunk = next(open_reader("sklearn", "sklearn:digits", {}).chunks())
    image = np.asarray(chunk.rows[0])
    assert (image.shape, image.dtype) == ((8, 8, 3), np.uint8)
    np.testing.assert_array_equal(image[..., 0], np.rint(load_digits().images[0] / 16 * 255))


def test_some_rows_of_a_set_can_be_read() -> None:
    assert open_reader("sklearn", "sklearn:wine", {"split": "[:50%]"}).schema().num_rows == 89


def test_a_set_that_is_not_shipped_is_refused_with_those_that_are() -> None:
    with pytest.raises(StoreError, match="no data set 'mnist'") as caught:
        open_reader("sklearn", "sklearn:mnist", {})
    assert "sklearn:digits" in caught.value.allowed
