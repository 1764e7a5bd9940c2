"""Other data sets than Fashion-MNIST, in small files made in their exact formats."""

import hashlib
import io
import json
import tarfile
import threading
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY_RUN, idx
from PIL import Image
from test_data import QuietHandler

from fmnist_tuning.data.catalogue import FILES, MOST_BYTES, find_dataset
from fmnist_tuning.data.fetch_others import fetch_dataset
from fmnist_tuning.data.files import CHECKSUMS, OTHER_LAYOUTS, find
from fmnist_tuning.errors import ConfigError, DataError, MissingDataError
from fmnist_tuning.sweeps import datasets
from fmnist_tuning.sweeps.datasets import DATASETS, Dataset
from fmnist_tuning.sweeps.reading import load_sweeps
from fmnist_tuning.sweeps.settings import RunConfig

NAMES = [name for name in DATASETS if name not in {"fashion_mnist", "folder"}]
TRAIN, TEST = 60, 30


@pytest.fixture
def small(monkeypatch):
    """The data sets with as few images as the files here have."""
    for name in NAMES:
        own = DATASETS[name]
        smaller = Dataset(own.title, TRAIN, TEST, own.size, own.channels, own.classes)
        monkeypatch.setitem(datasets.DATASETS, name, smaller)


def labels_of(count: int, classes: int) -> np.ndarray:
    return (np.arange(count) % classes).astype(np.uint8)


def contents_of(name: str) -> dict[str, bytes]:
    """Files as the authors have them, whose pixels tell where they belong."""
    there, rng = DATASETS[name], np.random.default_rng(5)
    parts = []
    for count in (TRAIN, TEST):
        shape = (count, there.size, there.size) if there.channels == 1 else (count, 3, 32, 32)
        parts.append((rng.integers(0, 256, shape, np.uint8), labels_of(count, len(there.classes))))
    if name.startswith("cifar"):
        records = []
        for images, labels in parts:
            coarse = [labels[:, None] // 5] if name == "cifar100" else []
            records.append(np.hstack([*coarse, labels[:, None], images.reshape(len(images), -1)]))
        batches = np.array_split(records[0], len(FILES[name]) - 1)
        raw = [batch.tobytes() for batch in (*batches, records[1])]
        return dict(zip(FILES[name], raw, strict=True))
    if name == "emnist_letters":  # on their sides, and counted from 1
        parts = [(images.swapaxes(1, 2), labels + 1) for images, labels in parts]
    arrays = [idx(np.ascontiguousarray(array)) for part in parts for array in part]
    return dict(zip(FILES[name], arrays, strict=True))


def write(name: str, place: Path, *, listed: bool = True) -> Path:
    folder = place / OTHER_LAYOUTS[name]
    folder.mkdir(parents=True)
    lines = []
    for each, content in contents_of(name).items():
        (folder / each).write_bytes(content)
        lines.append(f"{hashlib.sha256(content).hexdigest()}  {each}\n")
    if listed:
        (folder / CHECKSUMS).write_text("".join(lines))
    return folder


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", NAMES)
def test_a_data_set_is_read(tmp_path, name):
    """Upright images and labels from 0, whatever the form of the files."""
    folder = write(name, tmp_path)
    found = find_dataset(name, tmp_path)
    there = DATASETS[name]
    rng = np.random.default_rng(5)
    shape = (TRAIN, there.size, there.size) if there.channels == 1 else (TRAIN, 3, 32, 32)
    assert np.array_equal(found.train_images, rng.integers(0, 256, shape, np.uint8))
    assert np.array_equal(found.train_labels, labels_of(TRAIN, len(there.classes)))
    assert np.array_equal(found.test_labels, labels_of(TEST, len(there.classes)))
    assert (found.folder, found.dataset, found.classes) == (folder, name, there.classes)
    assert found.shape == datasets.Shape(
        TRAIN, TEST, there.size, there.channels, len(there.classes)
    )
    assert found.described == f"{there.title}, {TRAIN} + {TEST} images"


def test_what_the_data_sets_hold():
    """As many images and classes as their authors say, under names that differ."""
    counts = {name: (d.train_images, d.test_images, len(d.classes)) for name, d in DATASETS.items()}
    assert counts["emnist_letters"] == (124_800, 20_800, 26)
    assert counts["cifar100"] == (50_000, 10_000, 100)
    assert counts["cifar10"] == (50_000, 10_000, 10)
    assert counts["mnist"] == counts["kmnist"] == counts["fashion_mnist"] == (60_000, 10_000, 10)
    assert all(len(set(d.classes)) == len(d.classes) for d in DATASETS.values())
    assert list(DATASETS["cifar100"].classes) == sorted(DATASETS["cifar100"].classes)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", ["mnist", "cifar100"])
def test_what_is_wrong_with_the_files(tmp_path, name):
    """Each with the file and what to do; nothing that is not listed is used."""
    with pytest.raises(MissingDataError, match=f"fmnist data --fetch --dataset {name}` gets them"):
        find_dataset(name, tmp_path)
    folder = write(name, tmp_path, listed=False)
    with pytest.raises(DataError, match=f"cannot be checked, for there is no {CHECKSUMS}"):
        find_dataset(name, tmp_path)
    lines = [
        f"{hashlib.sha256((folder / each).read_bytes()).hexdigest()}  {each}"
        for each in FILES[name]
    ]
    (folder / CHECKSUMS).write_text("\n".join(lines))
    find_dataset(name, tmp_path)
    last = folder / FILES[name][-1]
    last.write_bytes(last.read_bytes()[:-1] + b"\x07")
    with pytest.raises(DataError, match=f"{last.name} is damaged: its contents are not those"):
        find_dataset(name, tmp_path)
    last.unlink()
    with pytest.raises(DataError, match=f"{last.name} is missing, but others of its files are"):
        find_dataset(name, tmp_path)


def test_files_of_their_real_size_are_read():
    """Each is below the limit that stops a forged archive."""
    for name in NAMES:
        there = DATASETS[name]
        one = there.size**2 * there.channels
        counts = (there.train_images, there.test_images)
        if name == "cifar10":
            counts = (there.train_images // 5,)
        assert max(counts) * (one + 2) + 16 < MOST_BYTES


@pytest.mark.usefixtures("small")
def test_listed_files_are_not_called_published(tmp_path):
    """Anybody can write the list."""
    write("mnist", tmp_path)
    assert not find_dataset("mnist", tmp_path).published


@pytest.mark.usefixtures("small")
def test_mnist_is_not_taken_for_fashion_mnist(tmp_path):
    """Though it lies in the same folder, with files of the same names and a list."""
    write("mnist", tmp_path)
    with pytest.raises(MissingDataError):
        find(tmp_path)


@pytest.fixture
def served(tmp_path):
    """A web server on 127.0.0.1."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.mark.slow
@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_is_fetched_in_its_binary_form(tmp_path, served, name):
    """Checked against its MD5 before it is unpacked; another archive leaves nothing."""
    folder, address = served
    with tarfile.open(folder / "it.tar.gz", "w:gz") as archive:
        for each, content in contents_of(name).items():
            entry = tarfile.TarInfo(f"{OTHER_LAYOUTS[name]}/{each}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    md5 = hashlib.md5((folder / "it.tar.gz").read_bytes()).hexdigest()  # noqa: S324
    with pytest.raises(DataError, match="could not be fetched") as caught:
        fetch_dataset(name, tmp_path / "data", say=str, source=(f"{address}it.tar.gz", "0" * 32))
    assert f"list them with `sha256sum * > {CHECKSUMS}`" in str(caught.value)
    assert list((tmp_path / "data").iterdir()) == []
    fetch_dataset(name, tmp_path / "data", say=str, source=(f"{address}it.tar.gz", md5))
    assert find_dataset(name, tmp_path / "data").shape.train_images == TRAIN


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_mnist_is_fetched_by_torchvision(tmp_path, served):
    """From its mirrors, against its own MD5."""
    import gzip

    from torchvision.datasets import KMNIST

    folder, address = served
    resources = []
    for each, content in contents_of("kmnist").items():
        (folder / f"{each}.gz").write_bytes(gzip.compress(content))
        md5 = hashlib.md5((folder / f"{each}.gz").read_bytes()).hexdigest()  # noqa: S324
        resources.append((f"{each}.gz", md5))
    kind = type("KMNIST", (KMNIST,), {"mirrors": [address], "resources": resources})
    said = []
    fetch_dataset("kmnist", tmp_path / "data", say=said.append, source=kind)
    assert said == ["fetching Kuzushiji-MNIST ..."]
    assert find_dataset("kmnist", tmp_path / "data").classes[1] == "ki"


def own_folder(place: Path, *, colour: bool = False, size: int = 12) -> Path:
    """Pictures of two classes, which differ in their brightness."""
    rng = np.random.default_rng(3)
    for part, count in (("train", 20), ("test", 10)):
        for label, name in enumerate(("cat", "dog")):
            folder = place / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                shape = (size, size, 3) if colour else (size, size)
                pixels = rng.integers(0, 120, shape, np.uint8) + 120 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    return place


@pytest.mark.parametrize("colour", [False, True])
def test_images_by_class_folder(tmp_path, colour):
    """Classes and their numbers by name, pictures in the order of their numbers, grey or colour."""
    found = find_dataset("folder", own_folder(tmp_path, colour=colour))
    assert found.classes == ("cat", "dog")
    assert found.shape == datasets.Shape(40, 20, 12, 3 if colour else 1, 2)
    assert found.train_labels.tolist() == [0] * 20 + [1] * 20
    tenth = np.asarray(Image.open(tmp_path / "train/cat/9.png"))
    assert np.array_equal(found.train_images[9], tenth.transpose(2, 0, 1) if colour else tenth)
    before = found.digest
    (tmp_path / "test/dog/0.png").write_bytes((tmp_path / "test/cat/0.png").read_bytes())
    assert find_dataset("folder", tmp_path).digest != before


def test_own_idx_files_of_any_size(tmp_path):
    """Three dimensions are grey, four are colour with its channels last."""
    for images in (np.zeros((4, 9, 9), np.uint8), np.zeros((4, 9, 9, 3), np.uint8)):
        names = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte",
                 "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")  # fmt: skip
        labels = np.array([0, 1, 2, 1], np.uint8)
        for name, array in zip(names, (images, labels, images[:2], labels[:2]), strict=True):
            (tmp_path / name).write_bytes(idx(array))
        channels = 3 if images.ndim == 4 else 1
        assert find_dataset("folder", tmp_path).shape == datasets.Shape(4, 2, 9, channels, 3)


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda p: (p / "test/bird").mkdir(), "bird: .*train has no class of that name"),
        (
            lambda p: Image.new("L", (12, 9)).save(p / "test/cat/odd.png"),
            "odd.png: found 12x9 pixels, allowed: 12x12 as .*0.png has; scale your images",
        ),
        (lambda p: (p / "train/dog/5.png").write_text("hi"), "5.png: not a picture"),
        (
            lambda p: Image.fromarray(np.full((12, 12), 5_000, np.uint16)).save(
                p / "test/cat/3.png"
            ),
            "3.png: has more than 8 bits for each pixel; save it with 8",
        ),
        (
            lambda p: Image.new("RGBA", (12, 12), (9, 9, 9, 0)).save(p / "test/cat/3.png"),
            "3.png: has transparent parts; save it on a background",
        ),
        (
            lambda p: (p / "train/dog/5.png").write_bytes(
                (p / "train/dog/6.png").read_bytes()[:60]
            ),
            "5.png: cannot be read",
        ),
    ],
)
def test_own_images_that_cannot_be_used(tmp_path, spoil, problem):
    """The image and the remedy."""
    own_folder(tmp_path)
    spoil(tmp_path)
    with pytest.raises(DataError, match=problem):
        find_dataset("folder", tmp_path)


def test_a_folder_without_images(tmp_path, fmnist_here):
    """What is looked for; and who forgets to say that it is a folder of their own is told."""
    with pytest.raises(MissingDataError, match="found no images for `dataset: folder`, allowed"):
        find_dataset("folder", tmp_path)
    (tmp_path / "train").mkdir()
    with pytest.raises(MissingDataError, match="found train/ for `dataset: folder`"):
        find_dataset("folder", tmp_path)
    (tmp_path / "test").mkdir()
    done = fmnist_here("data", "--data-dir", tmp_path)
    assert done.returncode == 2
    assert (
        "images of your own, in train/ and test/, are asked for by `dataset: folder`" in done.stderr
    )


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_class_without_images(tmp_path, part):
    """Each class is needed to learn and to judge."""
    own_folder(tmp_path)
    for picture in (tmp_path / part / "dog").iterdir():
        picture.unlink()
    with pytest.raises(DataError, match=rf"{part}/dog: found no images, allowed: one at least of"):
        find_dataset("folder", tmp_path)


@pytest.mark.usefixtures("migrated")
def test_a_shape_that_the_images_do_not_have(fmnist_here, sweep_file, tmp_path):
    """Said before anything is trained."""
    text = (
        "sweep: s\ntitle: S\ngrid: {dropout_rate: [0.1]}\nfixed: {dataset: folder, batch_size: 8}\n"
    )
    place = own_folder(tmp_path / "p")
    for setting, problem in {
        "image_size=28": "image_size: found 28, allowed: 12, as images have",
        "classes=10": "classes: found 10, allowed: 2, as images have",
    }.items():
        done = fmnist_here("plan", sweep_file(text), "--data-dir", place, "--set", setting)
        assert done.returncode == 2
        assert problem in done.stderr


def test_the_network_takes_its_shape_from_the_data():
    """Channels, size and classes; nothing of it needs to be set."""
    from fmnist_tuning.sweeps.cost import parameter_count
    from fmnist_tuning.training.model import FashionCNN

    config = RunConfig(dataset="cifar100")
    network = FashionCNN(**config.arguments("network"))
    assert network.blocks[0].conv.weight.shape[1] == 3
    assert network.output.out_features == 100
    assert network.hidden[0].in_features == 64 * 8 * 8
    assert sum(p.numel() for p in network.parameters()) == parameter_count(config)
    assert (config.train_size, config.val_size) == (50_000, 10_000)
    assert RunConfig(dataset="cifar10", validation="holdout").train_size == 40_000


@pytest.mark.parametrize(
    ("fixed", "problem"),
    [
        (
            "{dataset: cifar10, use_pooling: true, num_conv_layers: 6}",
            r"num_conv_layers: found 6, allowed: at most 5 with use_pooling, .*\(32 -> 16 -> 8",
        ),
        (
            "{dataset: cifar10, train_size: 60000}",
            "train_size: found 60000, allowed: at most 50000",
        ),
        ("{dataset: mnist, classes: 5}", "classes: found 5, allowed with mnist: 10; leave it out"),
        ("{augmentation: shift, shift_pixels: 28}", "allowed: less than image_size = 28"),
        ("{dataset: imagenet}", "dataset: found 'imagenet'; allowed: fashion_mnist, mnist, kmnist"),
    ],
)
def test_settings_that_the_data_do_not_allow(sweep_file, fixed, problem):
    """One problem, with its place and what is allowed."""
    text = f"sweep: s\ntitle: S\ngrid: {{dropout_rate: [0.1, 0.2]}}\nfixed: {fixed}\n"
    with pytest.raises(ConfigError, match=problem) as caught:
        load_sweeps([sweep_file(text)])
    assert str(caught.value).startswith("1 problem;")


def test_a_folder_is_not_varied(sweep_file):
    """Its shape would have to be known for one arm and not for the others."""
    text = "sweep: s\ntitle: S\ngrid: {dataset: [mnist, folder]}\n"
    with pytest.raises(ConfigError, match="dataset: folder is set in `fixed` or by --set"):
        load_sweeps([sweep_file(text)])


SMALL = [option for option in TINY_RUN if "_size" not in option]  # but for those of the images


@pytest.mark.slow
@pytest.mark.usefixtures("migrated")
def test_a_study_of_own_images(fmnist_here, sweep_file, tmp_path):
    """Trained, judged, drawn, registered and asked, by the names of one's own classes."""
    place = own_folder(tmp_path / "pictures", colour=True, size=16)
    text = (
        "sweep: own\ntitle: Own\ngrid: {augmentation: [none, flip]}\n"
        "fixed: {dataset: folder, batch_size: 8, epochs: 5}\n"
    )
    options = [option for option in SMALL if "batch_size" not in option and "epochs" not in option]
    here = ["--data-dir", place]
    done = fmnist_here("run", sweep_file(text), *options, *here, "--json")
    assert done.returncode == 0, done.stderr
    assert "your own images, 40 + 20 images, verified" in done.stderr
    run = json.loads(done.stdout)[0]
    assert run["config"]["image_size"] == 16
    assert run["config"]["train_size"] == 40
    assert run["metrics"]["final_val_accuracy"] > 0.9
    again = fmnist_here("run", sweep_file(text), *options, *here)
    assert "reused" in again.stderr
    for command in (["plot"], ["champion"]):
        done = fmnist_here(*command, *here)
        assert done.returncode == 0, done.stderr
    picture = tmp_path / "big.png"
    Image.new("RGB", (90, 70), (200, 210, 220)).save(picture)
    done = fmnist_here("predict", picture, "0", *here, "--json")
    first, second = json.loads(done.stdout)
    assert first["garment"] == "dog"
    assert second["truth"] == "cat"
    (tmp_path / "pictures").rename(tmp_path / "elsewhere")
    done = fmnist_here("predict", picture, "--json")
    assert json.loads(done.stdout)[0]["garment"] == "dog"


@pytest.mark.slow
@pytest.mark.usefixtures("small", "migrated")
def test_a_sweep_of_data_sets(fmnist_here, sweep_file, tmp_path, tiny_data):
    """Each arm on its own images; Fashion-MNIST's runs are those that other sweeps find."""
    import shutil

    place = tmp_path / "sets"
    shutil.copytree(tiny_data, place / "FashionMNIST/raw")
    write("cifar10", place)
    text = (
        "sweep: sets\ntitle: Sets\ngrid: {dataset: [fashion_mnist, cifar10]}\n"
        "fixed: {train_size: 60, val_size: 30, batch_size: 30}\n"
    )
    here = ["--data-dir", place]
    done = fmnist_here("run", sweep_file(text), *SMALL, *here, "--json")
    assert done.returncode == 0, done.stderr
    runs = json.loads(done.stdout)
    assert [run["config"]["image_channels"] for run in runs] == [1, 3]
    assert len({run["fingerprint"] for run in runs}) == 2
    other = (
        "sweep: other\ntitle: Other\ngrid: {dropout_rate: [0.5]}\n"
        "fixed: {train_size: 60, val_size: 30, batch_size: 30}\n"
    )
    done = fmnist_here("run", sweep_file(other, "other.yaml"), *SMALL, *here)
    assert done.returncode == 0, done.stderr
    assert "reused" in done.stderr
    again = fmnist_here("run", sweep_file(text), *SMALL, *here)
    assert again.returncode == 0, again.stderr
    assert fmnist_here("results", "sets").returncode == 0
    # A file of the study holds which images each sweep had.
    assert fmnist_here("export", "all.jsonl.gz").returncode == 0
    done = fmnist_here("import", "all.jsonl.gz", "--study", "copy")
    assert "2 runs added" in done.stdout, done.stderr
    done = fmnist_here("run", sweep_file(text), *SMALL, *here, "--study", "copy")
    assert done.returncode == 0, done.stderr
    assert "started" not in done.stderr
