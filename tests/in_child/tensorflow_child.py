"""What tests run in TensorFlow's own process, so that theirs never imports it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from storage.views import View
from tasks.readers.base import Pair


def save_image_model(path: str) -> None:
    """A SavedModel that is called on images (rows, 16, 16, 3) and gives 8 features of random weights."""
    import tensorflow as tf

    class Images(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.weights = tf.Variable(tf.random.stateless_normal((3, 8), seed=(0, 1)))

        @tf.function(input_signature=[tf.TensorSpec((None, 16, 16, 3), tf.float32)])
        def __call__(self, images: Any) -> Any:
            return tf.tanh(tf.reduce_mean(images, (1, 2)) @ self.weights)

    _save(Images(), path)


def save_text_model(path: str) -> None:
    """A SavedModel that is called on sentences and gives 8 features of random weights."""
    import tensorflow as tf

    class Sentences(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.weights = tf.Variable(tf.random.stateless_normal((64, 8), seed=(0, 2)))

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
        def __call__(self, sentences: Any) -> Any:
            words = tf.strings.split(sentences)
            vectors = tf.gather(self.weights, tf.strings.to_hash_bucket_fast(words.flat_values, 64))
            return tf.math.segment_mean(vectors, words.value_rowids())

    _save(Sentences(), path)


def save_all(root: str) -> None:
    """One model of every style that the TensorFlow sources open, each under its name."""
    save_image_model(f"{root}/image")
    save_text_model(f"{root}/text")
    save_keras_models(root)
    save_older_modules(root)
    save_vocabulary_model(root)


def save_keras_models(root: str) -> None:
    """Keras files of images and of sentences, each with a classifier at its end, and an export of the former."""
    import keras

    keras.utils.set_random_seed(0)
    images = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(5, activation="softmax"),
        ]
    )
    images.save(f"{root}/image.keras")
    images.export(f"{root}/exported", verbose=False)
    dropped = [
        keras.layers.Flatten(),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(8),
    ]
    keras.Sequential([keras.Input((16, 16, 3)), *dropped, keras.layers.ReLU()]).save(f"{root}/dropout.keras")
    sentences = keras.Input((1,), dtype="string")
    words = keras.layers.TextVectorization(vocabulary=["cat", "dog", "old", "rose"], output_sequence_length=4)
    hidden = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(6, 8)(words(sentences)))
    keras.Model(sentences, keras.layers.Dense(3)(hidden)).save(f"{root}/text.keras")


def save_vocabulary_model(root: str) -> None:
    """A SavedModel that looks words up in a vocabulary among its own assets."""
    import tensorflow as tf

    vocabulary = Path(root).with_suffix(".words")
    vocabulary.write_text("cat\ndog\nold\nrose\n")
    lines = (tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER)

    class Words(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.table = tf.lookup.StaticVocabularyTable(tf.lookup.TextFileInitializer(str(vocabulary), *lines), 1)
            self.weights = tf.Variable(tf.random.stateless_normal((5, 8), seed=(0, 4)))

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
        def __call__(self, sentences: Any) -> Any:
            words = tf.strings.split(sentences)
            vectors = tf.gather(self.weights, self.table.lookup(words.flat_values))
            return tf.math.segment_mean(vectors, words.value_rowids())

    _save(Words(), f"{root}/vocabulary")
    vocabulary.unlink()


def save_older_modules(root: str) -> None:
    """TF1-format hub modules: one of images, and one that looks sentences up in a vocabulary among its assets."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        images = v1.placeholder(tf.float32, (None, 16, 16, 3), "images")
        weights = v1.get_variable("weights", initializer=tf.random.stateless_normal((3, 8), seed=(0, 3)))
        features = tf.tanh(tf.reduce_mean(images, (1, 2)) @ weights)
        signature = v1.saved_model.predict_signature_def({"images": images}, {"default": features})
        _save_older(session, f"{root}/older", {"default": signature, "image_feature_vector": signature})
    vocabulary = Path(root).with_suffix(".sentences")
    vocabulary.write_text("the old cat near a rose\ndog\n")
    lines = (tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER)
    with tf.Graph().as_default(), v1.Session() as session:
        sentences = v1.placeholder(tf.string, (None,), "sentences")
        file = tf.constant(str(vocabulary))
        v1.add_to_collection(v1.GraphKeys.ASSET_FILEPATHS, file)
        table = tf.lookup.StaticHashTable(tf.lookup.TextFileInitializer(file, *lines), 2)
        weights = v1.get_variable("weights", initializer=tf.random.stateless_normal((3, 8), seed=(0, 5)))
        looked_up = tf.gather(weights, table.lookup(sentences))
        signature = v1.saved_model.predict_signature_def({"text": sentences}, {"default": looked_up})
        _save_older(session, f"{root}/older text", {"default": signature})
    vocabulary.unlink()


def _save_older(session: Any, path: str, signatures: dict[str, Any]) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    session.run([v1.global_variables_initializer(), v1.tables_initializer()])
    builder = v1.saved_model.Builder(path)
    builder.add_meta_graph_and_variables(
        session,
        [],
        signature_def_map=signatures,
        assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
        main_op=v1.tables_initializer(),
    )
    builder.save()
    (Path(path) / "tfhub_module.pb").write_bytes(b"\x08\x03")


def save_fixed_models(root: str) -> None:
    """SavedModels of images whose features no training changes: one has no weights, one rounds what it has."""
    import tensorflow as tf

    class Fixed(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec((None, 16, 16, 3), tf.float32)])
        def __call__(self, images: Any) -> Any:
            return tf.reduce_mean(images, (1, 2))

    class Rounded(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.weights = tf.Variable(tf.random.stateless_normal((3, 8), seed=(0, 6)))

        @tf.function(input_signature=[tf.TensorSpec((None, 16, 16, 3), tf.float32)])
        def __call__(self, images: Any) -> Any:
            return tf.cast(tf.cast(100 * tf.reduce_mean(images, (1, 2)) @ self.weights, tf.int32), tf.float32)

    _save(Fixed(), f"{root}/fixed")
    _save(Rounded(), f"{root}/rounded")


def save_filled_model(path: str, value: float) -> None:
    """A SavedModel of images all of whose weights are one number."""
    import tensorflow as tf

    class Filled(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.weights = tf.Variable(tf.fill((3, 8), value))

        @tf.function(input_signature=[tf.TensorSpec((None, 16, 16, 3), tf.float32)])
        def __call__(self, images: Any) -> Any:
            return tf.reduce_mean(images, (1, 2)) @ self.weights

    _save(Filled(), path)


def save_hostile(root: str, canary: str) -> None:
    """SavedModels that reach for files, Python or more when called, by name; some write the canary."""
    import tensorflow as tf

    def effects(sentences: Any) -> dict[str, Any]:
        path = tf.constant(canary)
        return {
            "reads": lambda: tf.io.read_file("/etc/hostname"),
            "writes": lambda: tf.io.write_file(path, "written"),
            "lists": lambda: tf.io.matching_files("/etc/*"),
            "python": lambda: tf.py_function(lambda: open(canary, "w").close(), [], []),
            "numpy": lambda: tf.numpy_function(lambda: 1.0, [], tf.float32),
            "prints": lambda: tf.print("written", output_stream=f"file://{canary}"),
            "saves": lambda: tf.raw_ops.SaveV2(
                prefix=path, tensor_names=["a"], shape_and_slices=[""], tensors=[tf.constant(1.0)]
            ),
            "restores": lambda: tf.raw_ops.RestoreV2(
                prefix=path, tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.float32]
            ),
            "datasets": lambda: tf.data.TextLineDataset("/etc/hostname").reduce(0, lambda count, line: count + 1),
            "branches": lambda: tf.cond(
                tf.size(sentences) > 0, lambda: tf.io.read_file("/etc/hostname"), lambda: tf.constant("")
            ),
            "vocabulary": lambda: tf.raw_ops.InitializeTableFromTextFileV2(
                table_handle=tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64),
                filename="/etc/hostname",
                key_index=-2,
                value_index=-1,
            ),
        }

    def module(name: str) -> Any:
        class Hostile(tf.Module):  # type: ignore[misc]
            @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
            def __call__(self, sentences: Any) -> Any:
                outcome = effects(sentences)[name]()
                waited = [outcome] if isinstance(outcome, tf.Operation | tf.Tensor) else []
                with tf.control_dependencies(waited):
                    return tf.zeros((tf.size(sentences), 8))

        return Hostile()

    for name in effects(tf.constant(["a"])):
        _save(module(name), f"{root}/{name}")


def _save(module: Any, path: str) -> None:
    import tensorflow as tf

    tf.saved_model.save(module, path, signatures=module.__call__.get_concrete_function())


def embed(record: dict[str, Any], rows_file: str, batches: list[int], view: list[str]) -> str:
    """Open a model and embed the rows of an .npz in batches of these sizes; the name of the features' file."""
    from storage.catalog import ModelRecord
    from tasks.sources import source_named

    model = source_named(record["source"]).open(ModelRecord(**record))
    with np.load(rows_file) as arrays:
        rows = [_row(row) for row in arrays.values()]
    edges = np.cumsum([0, *batches])
    asked = View(*view)
    parts = [rows[start:stop] for start, stop in pairwise(edges)]
    features = [model.embed(model.prepare(part), [asked])[asked] for part in parts]
    model.close()
    target = Path(rows_file).with_suffix(".features.npy")
    np.save(target, np.concatenate(features))
    return str(target)


def finetune(home: str, **arguments: Any) -> dict[str, Any]:
    """tasks.finetuning.keras_runs:finetune_keras in another home than this process was started for."""
    import os

    from tasks.finetuning.keras_runs import finetune_keras

    os.environ["SHIFT_HOME"] = home
    return finetune_keras(**arguments)


def export(home: str, **arguments: Any) -> dict[str, Any]:
    """tasks.finetuning.keras_exporting:export_keras in another home than this process was started for."""
    import os

    from tasks.finetuning.keras_exporting import export_keras

    os.environ["SHIFT_HOME"] = home
    return export_keras(**arguments)


def predict(record: dict[str, Any], rows_file: str, by: str = "tensorflow") -> list[list[float]]:
    """The probabilities of classes of the rows of an .npz, by plain TensorFlow or as MLflow serves the model."""
    import mlflow
    import tensorflow as tf

    path = record["path"]
    model = mlflow.pyfunc.load_model(path).predict if by == "mlflow" else tf.saved_model.load(path)
    with np.load(rows_file) as arrays:
        rows = [_row(row) for row in arrays.values()]
    fed = rows if record["modality"] == "text" else np.stack(rows).astype(np.float32) / 255
    return model(np.array(fed))["probabilities"].numpy().tolist()


def _row(array: np.ndarray) -> Any:
    """A row from its array: two texts are a pair."""
    if array.dtype.kind != "U":
        return array
    return Pair(*map(str, array)) if array.ndim else str(array)
