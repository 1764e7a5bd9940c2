import gzip
import hashlib
import re
import shutil
import stat
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from conftest import NAMES, TEST_COUNT, TRAIN_COUNT, idx, tiny_images, write_data

from fmnist_tuning.data import files
from fmnist_tuning.data.fetch import fetch_images
from fmnist_tuning.data.files import PUBLISHED, TORCHVISION_LAYOUT, DataFiles, find, verify
from fmnist_tuning.errors import DataError, MissingDataError
from fmnist_tuning.store.study import Study
from fmnist_tuning.sweeps.datasets import Shape
from fmnist_tuning.sweeps.reading import load_sweeps


def refresh_checksums(folder: Path) -> None:
    """Admit whatever the files hold now, so that only their structure can be wrong."""
    lines = [f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}" for n in NAMES]
    (folder / "SHA256SUMS").write_text("\n".join(lines))


def test_the_published_images(real_data):
    """Debian's package holds the very contents that were published."""
    found = verify(real_data)
    assert found.published
    assert found.train_images.shape == (60_000, 28, 28)
    assert np.bincount(found.test_labels).tolist() == [1_000] * 10
    assert found.digest == "d1fd84a877f3b78f"


@pytest.mark.parametrize("gzipped", [True, False])
@pytest.mark.parametrize("layout", [".", "FashionMNIST/raw"])
def test_layouts(tmp_path, layout, gzipped):
    """Plain or gzipped, flat or as torchvision lays them out: the same data."""
    folder = write_data(tmp_path / "images" / layout, gzipped=gzipped)
    found = find(tmp_path / "images")
    assert found.folder == folder
    assert len(found.train_labels) == TRAIN_COUNT
    assert found.digest == verify(folder).digest


def test_the_projects_own_folder_comes_first(tmp_path, monkeypatch):
    """./data, then Debian's package; a folder that is named is the only one."""
    debian = write_data(tmp_path / "debian")
    monkeypatch.setattr(files, "DEBIAN_FOLDER", debian)
    assert find().folder == debian
    own = write_data(tmp_path / "data")
    assert find().folder == own.relative_to(tmp_path)
    with pytest.raises(DataError, match="not in elsewhere; `fmnist data --fetch` gets them"):
        find(Path("elsewhere"))


def test_other_data_say_so(tmp_path):
    """Checksums of its own admit other data, under another digest and another name."""
    found = verify(write_data(tmp_path))
    assert not found.published
    assert found.described == "not Fashion-MNIST but your own data, 300 + 100 images"


def test_one_changed_pixel(tmp_path):
    """Structure intact, contents not."""
    folder = write_data(tmp_path)
    path = folder / NAMES[0]
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"{path} is damaged: its contents are not those"):
        verify(folder)


def test_unpublished_data_without_checksums(tmp_path):
    """Nothing passes for Fashion-MNIST by its shape."""
    with pytest.raises(DataError, match="SHA-256 differs"):
        verify(write_data(tmp_path, checksums=False))


def broken(content: bytes, how: str) -> bytes:
    return {
        "cut by one byte": content[:-1],
        "one byte too many": content + b"\0",
        "cut in the header": content[:6],
        "empty": b"",
        "another magic": b"\0\0\x0d\x01" + content[4:],
        "a count of billions": content[:4] + b"\xff\xff\xff\xff" + content[8:],
    }[how]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "how",
    ["cut by one byte", "one byte too many", "cut in the header", "empty", "another magic",
     "a count of billions"],
)  # fmt: skip
def test_damaged_files_are_named(tmp_path, name, how):
    """Whatever its checksum says, a file must be what its header says."""
    folder = write_data(tmp_path)
    (folder / name).write_bytes(broken((folder / name).read_bytes(), how))
    refresh_checksums(folder)
    with pytest.raises(DataError, match=rf"{folder / name} (is|holds)"):
        verify(folder)


def test_a_label_of_ten(tmp_path):
    """Ten classes are 0 to 9."""
    folder = write_data(tmp_path)
    labels = tiny_images(TEST_COUNT, 2)[1]
    labels[3] = 10
    (folder / NAMES[3]).write_bytes(idx(labels))
    refresh_checksums(folder)
    with pytest.raises(DataError, match="holds the label 10; allowed: 0 to 9"):
        verify(folder)


def test_images_of_another_size(tmp_path):
    """28x28 and no other."""
    folder = write_data(tmp_path)
    (folder / NAMES[0]).write_bytes(idx(np.zeros((TRAIN_COUNT, 32, 32))))
    refresh_checksums(folder)
    with pytest.raises(DataError, match="holds images of 32x32 pixels; allowed: 28x28 pixels"):
        verify(folder)


def test_counts_that_differ(tmp_path):
    """Every image has its label."""
    folder = write_data(tmp_path)
    (folder / NAMES[1]).write_bytes(idx(tiny_images(TRAIN_COUNT - 1, 1)[1]))
    refresh_checksums(folder)
    with pytest.raises(
        DataError, match="found 300 train images but 299 labels, allowed: the same number of both"
    ):
        verify(folder)


def test_one_of_four_is_missing(tmp_path):
    """Half a download is told from no download."""
    folder = write_data(tmp_path)
    (folder / NAMES[2]).unlink()
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte\(.gz\) is missing"):
        find(folder)


@pytest.mark.parametrize("tail", [b"rubbish", b""])
def test_a_gzip_that_is_cut_or_followed_by_rubbish(tmp_path, tail):
    """Neither passes."""
    folder = write_data(tmp_path, gzipped=True)
    path = folder / f"{NAMES[0]}.gz"
    content = path.read_bytes()
    path.write_bytes(content + tail if tail else content[:-20])
    with pytest.raises(DataError, match=f"{path} cannot be read"):
        verify(folder)


def test_a_list_of_checksums_that_is_none(tmp_path):
    """The remedy is the command that writes one."""
    folder = write_data(tmp_path)
    (folder / "SHA256SUMS").write_text("hello\n")
    with pytest.raises(DataError, match=r"write it with `sha256sum \*ubyte > SHA256SUMS`"):
        verify(folder)


# --- fetching -------------------------------------------------------------------------------------


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def mirror(tmp_path):
    """A web server on 127.0.0.1 with the four gzipped files, and a dataset class that uses it."""
    from torchvision.datasets import FashionMNIST

    folder = write_data(tmp_path / "mirror", gzipped=True, checksums=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()

    resources = [
        (f"{name}.gz", hashlib.md5((folder / f"{name}.gz").read_bytes()).hexdigest())  # noqa: S324
        for name in NAMES
    ]
    mirrors = [f"http://127.0.0.1:{server.server_port}/"]
    # torchvision names the folder after the class.
    yield (
        folder,
        type("FashionMNIST", (FashionMNIST,), {"mirrors": mirrors, "resources": resources}),
    )
    server.shutdown()


@pytest.fixture
def published_tiny(monkeypatch, tiny_data):
    """Let the tiny files be the published ones."""
    for name in NAMES:
        content = (tiny_data / name).read_bytes()
        monkeypatch.setitem(PUBLISHED, name, hashlib.sha256(content).hexdigest())


@pytest.mark.usefixtures("published_tiny")
def test_torchvisions_own_download(tmp_path, mirror):
    """The path that most users take: torchvision fetches, unpacks and checks; we verify."""
    said = []
    folder = fetch_images(tmp_path / "data", say=said.append, dataset=mirror[1], apt=None)
    assert folder == tmp_path / "data/FashionMNIST/raw"
    assert isinstance(find(tmp_path / "data"), DataFiles)
    assert said == ["fetching Fashion-MNIST from torchvision's mirror ..."]
    # torchvision finds what we fetched where it would have put it.
    assert len(mirror[1](str(tmp_path / "data"), download=False).targets) == TRAIN_COUNT


@pytest.mark.usefixtures("published_tiny")
def test_fetching_mends_a_damaged_folder(tmp_path, mirror):
    """The damaged file gives way, in whichever form it lies there."""
    folder = write_data(tmp_path / "data/FashionMNIST/raw", checksums=False)
    (folder / NAMES[0]).write_bytes(b"cut")
    with pytest.raises(DataError):
        find(tmp_path / "data")
    fetch_images(tmp_path / "data", say=lambda _: None, dataset=mirror[1], apt=None)
    assert find(tmp_path / "data").published


@pytest.mark.usefixtures("published_tiny")
@pytest.mark.parametrize("damage", ["cut", "missing", "changed"])
def test_a_cut_download_leaves_nothing(tmp_path, mirror, damage):
    """No half of a data set, no temporary folder, and an error that says what to do by hand."""
    served, dataset = mirror
    path = served / f"{NAMES[2]}.gz"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "missing":
        path.unlink()
    else:
        path.write_bytes(gzip.compress(idx(np.zeros((TEST_COUNT, 28, 28)))))
    with pytest.raises(DataError, match="put these four files") as caught:
        fetch_images(tmp_path / "data", say=lambda _: None, dataset=dataset, apt=None)
    assert "torchvision's mirror: " in str(caught.value)
    assert list((tmp_path / "data").iterdir()) == []


def unreachable():
    from torchvision.datasets import FashionMNIST

    class Unreachable(FashionMNIST):
        mirrors = ["http://127.0.0.1:9/"]  # noqa: RUF012

    return Unreachable


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="needs Debian's dpkg-deb")
@pytest.mark.usefixtures("published_tiny")
def test_debians_package_steps_in(tmp_path, tiny_data, monkeypatch):
    """Where the mirror is out of reach: apt downloads, dpkg-deb unpacks, nothing is installed."""
    monkeypatch.chdir(tmp_path)
    tree = tmp_path / "package"
    target = tree / "usr/share/datasets/fashion-mnist"
    target.mkdir(parents=True)
    for name in NAMES:
        (target / f"{name}.gz").write_bytes(gzip.compress((tiny_data / name).read_bytes()))
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN/control").write_text(
        "Package: dataset-fashion-mnist\nVersion: 1\nArchitecture: all\n"
        "Maintainer: Test <test@example.org>\nDescription: test\n"
    )
    # An apt-get that knows one package.
    apt = tmp_path / "apt-get"
    apt.write_text(
        "#!/bin/sh\nfor last; do :; done\n"
        f'[ "$last" = update ] || dpkg-deb --build "{tree}" ./dataset-fashion-mnist_1_all.deb\n'
    )
    apt.chmod(apt.stat().st_mode | stat.S_IXUSR)
    said = []
    fetch_images(Path("data"), say=said.append, dataset=unreachable(), apt=str(apt))
    assert find().published
    assert said[-1] == "fetching Fashion-MNIST from Debian's dataset-fashion-mnist ..."


def test_when_no_way_is_open(tmp_path):
    """Each way's reason, and what to do by hand."""
    broken_apt = tmp_path / "apt-get"
    broken_apt.write_text("#!/bin/sh\necho 'E: no network here' >&2; exit 100\n")
    broken_apt.chmod(0o755)
    with pytest.raises(DataError) as caught:
        fetch_images(tmp_path / "d", say=lambda _: None, dataset=unreachable(), apt=str(broken_apt))
    text = str(caught.value)
    assert "Debian's dataset-fashion-mnist: E: no network here" in text
    assert "sudo apt install dataset-fashion-mnist" in text
    assert "t10k-labels-idx1-ubyte" in text


def test_a_folder_that_cannot_be_written(tmp_path):
    """A file in the way, say."""
    (tmp_path / "data").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        fetch_images(tmp_path / "data", say=lambda _: None, dataset=unreachable(), apt=None)


# --- tensors --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tensors(tiny_data):
    import torch

    from fmnist_tuning.data.images import ImageSet

    return ImageSet.load(verify(tiny_data).arrays, torch.device("cpu"))


def select(tensors, **options):
    import torch

    defaults = {"train_size": 200, "val_size": 100, "validation": "test", "holdout_size": 10}
    seed = options.pop("seed", 0)
    return tensors.select(**(defaults | options), generator=torch.Generator().manual_seed(seed))


def test_normalised_with_the_training_sets_own_figures(tensors):
    """Mean 0 and deviation 1 over all training pixels; the test set by the same figures."""
    pixels = tensors.train.at(slice(None))[0].double()
    assert pixels.shape == (TRAIN_COUNT, 1, 28, 28)
    assert abs(pixels.mean()) < 1e-6
    assert abs(pixels.std(correction=0) - 1) < 1e-6


def test_the_familiar_constants_of_fashion_mnist(real_data):
    """0.2860 and 0.3530, which every tutorial types by hand."""
    from fmnist_tuning.data.images import pixel_statistics

    mean, deviation = pixel_statistics(verify(real_data).train_images)
    assert (round(mean, 4), round(deviation, 4)) == (0.2860, 0.3530)


def test_subsets_are_balanced_and_seeded(tensors):
    """The same seed takes the same images, as evenly from the classes as they come."""
    once, again, other = select(tensors), select(tensors), select(tensors, seed=1)
    assert once.train.labels.bincount().tolist() == [20] * 10
    assert (once.train.images == again.train.images).all()
    assert not (once.train.images == other.train.images).all()
    odd = select(tensors, train_size=57).train.labels.bincount()
    assert odd.sum() == 57
    assert odd.max() - odd.min() == 1


def test_everything_is_taken_without_a_copy(tensors):
    """The usual case costs no memory."""
    chosen = select(tensors, train_size=TRAIN_COUNT, val_size=TEST_COUNT)
    assert chosen.train.images.data_ptr() == tensors.train.images.data_ptr()
    assert chosen.test is None


def test_a_holdout_shares_no_image_with_training(tensors):
    """Validation comes out of the training set, and the test set stays for the end."""
    chosen = select(tensors, validation="holdout", holdout_size=100, train_size=200, val_size=100)
    seen = {image.numpy().tobytes() for image in chosen.train.images}
    held = {image.numpy().tobytes() for image in chosen.validation.images}
    assert (len(seen), len(held)) == (200, 100)
    assert not seen & held
    assert chosen.validation.labels.bincount().tolist() == [10] * 10
    assert len(chosen.test) == TEST_COUNT


def test_more_images_than_there_are(tensors):
    """The message has the number that would work."""
    with pytest.raises(DataError, match="set it with --set train_size=300"):
        select(tensors, train_size=301)


def test_batches_show_every_image_once(tensors):
    """As stored, the last batch smaller."""
    import torch

    batches = list(tensors.test.batches(32))
    assert [len(labels) for _, labels in batches] == [32, 32, 32, 4]
    assert torch.equal(torch.cat([labels for _, labels in batches]), tensors.test.labels)


def _look(images, connection):
    import numpy as np

    arrays = images.arrays["fashion_mnist"]
    connection.send([int(array.sum(dtype=np.int64)) for array in arrays])
    arrays[0][:] = 7


@pytest.mark.slow
def test_processes_share_the_images(tiny_data):
    """A process that is started as workers are reads the very memory, and no copy of it."""
    from fmnist_tuning.data.shared import SharedImages
    from fmnist_tuning.running.pool import context

    shared = SharedImages([verify(tiny_data)])
    arrays = shared.arrays["fashion_mnist"]
    sums = [int(array.sum(dtype=np.int64)) for array in arrays]
    ours, theirs = context().Pipe()
    process = context().Process(target=_look, args=(shared, theirs))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert ours.recv() == sums
    assert (arrays[0] == 7).all()


def test_names_with_dots_and_nested_folders(tmp_path):
    """As other copies of the files have them; nothing needs to be renamed."""
    write_data(tmp_path / "archive/fashion")
    for path in list((tmp_path / "archive/fashion").glob("*ubyte*")):
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    listing = tmp_path / "archive/fashion/SHA256SUMS"
    listing.write_text(listing.read_text().replace("-idx", ".idx"))
    assert find(tmp_path).shape == find(write_data(tmp_path / "plain")).shape


def test_own_images_without_a_list(tmp_path):
    """The message says how they are admitted, and does so."""
    folder = write_data(tmp_path / "my images", checksums=False)
    with pytest.raises(DataError) as caught:
        verify(folder)
    (command,) = re.findall(r"`(cd .*? && sha256sum .*?)`", str(caught.value))
    subprocess.run(["sh", "-c", command], check=True)
    assert verify(folder).shape == Shape(TRAIN_COUNT, TEST_COUNT, 28, 1, 10)


def test_tables_from_kaggle(tmp_path, fmnist_here):
    """Two files of 785 columns become the four, and are the same images."""
    for name, count, seed in (("test", TEST_COUNT, 2), ("train", TRAIN_COUNT, 1)):
        images, labels = tiny_images(count, seed)
        rows = np.column_stack([labels, images.reshape(count, -1)]).astype(int)
        heading = ",".join(["label", *(f"pixel{n}" for n in range(1, 785))])
        np.savetxt(tmp_path / f"f_{name}.csv", rows, "%d", ",", header=heading, comments="")
    with pytest.raises(DataError) as caught:
        find(tmp_path)
    assert f"(`fmnist data --csv {tmp_path}/f_test.csv {tmp_path}/f_train.csv`" in str(caught.value)
    again = ("data", "--csv", "f_test.csv", "f_train.csv", "--data-dir", "made")
    done = fmnist_here(*again)
    assert done.returncode == 0, done.stderr
    made, written = find(tmp_path / "made"), verify(write_data(tmp_path / "idx"))
    assert made.digest == written.digest
    assert fmnist_here(*again).returncode == 0  # the same once more
    table = tmp_path / "f_test.csv"
    table.write_text(table.read_text().replace(",0,", ",1,", 1))
    before = {path: path.read_bytes() for path in (tmp_path / "made").rglob("*") if path.is_file()}
    done = fmnist_here(*again)
    assert done.returncode == 2
    assert "has other images already; name another folder with --data-dir" in done.stderr
    for path, content in before.items():
        assert path.read_bytes() == content


def test_own_images_are_not_replaced_by_the_published_ones(tmp_path, fmnist_here):
    """`--fetch` leaves a folder with checksums of its own as it is, though a file is damaged."""
    folder = write_data(tmp_path / "own" / TORCHVISION_LAYOUT)
    damaged = next(path for path in folder.iterdir() if "images" in path.name)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    before = {path: path.read_bytes() for path in folder.iterdir()}
    done = fmnist_here("data", "--fetch", "--data-dir", "own")
    assert done.returncode == 2
    assert "holds your own images" in done.stderr
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("text", ["", "label,a\n1,2\n", "x", "1," * 784 + "999\n", "1;2\n"])
def test_tables_of_another_shape(fmnist_here, tmp_path, text):
    """One line, and nothing is written."""
    (tmp_path / "a.csv").write_text(text)
    done = fmnist_here("data", "--csv", "a.csv", "a.csv", "--data-dir", "made")
    assert done.returncode == 2
    assert done.stderr.startswith("error: a.csv: ")
    assert not (tmp_path / "made").exists()


@pytest.mark.usefixtures("migrated")
def test_all_images_are_all_there_are(fmnist_here, sweep_file, tiny_data):
    """Sizes that are left out; and more than there are is said before anything starts."""
    file = sweep_file("sweep: s\ntitle: S\ngrid: {dropout_rate: [0.0]}\n")
    done = fmnist_here("plan", file, "--data-dir", tiny_data)
    assert done.returncode == 0, done.stderr
    for key, size, most in (("train_size", 5_000, TRAIN_COUNT), ("val_size", 900, TEST_COUNT)):
        done = fmnist_here("run", file, "--set", f"{key}={size}", "--data-dir", tiny_data)
        assert done.returncode == 2
        assert f"{key}: found {size:,}, allowed: at most {most}, as many as" in done.stderr
    assert "s" not in str(Study.open().sweeps())


def test_all_of_a_holdout(sweep_file):
    """What the holdout leaves."""
    fixed = "fixed: {validation: holdout, holdout_size: 40}\n"
    text = f"sweep: s\ntitle: S\ngrid: {{dropout_rate: [0.0]}}\n{fixed}"
    (sweep,) = load_sweeps([sweep_file(text)], shapes={"fashion_mnist": Shape(400, 100, 28, 1, 10)})
    assert (sweep.arms[0].config.train_size, sweep.arms[0].config.val_size) == (360, 40)


def test_other_images_of_the_same_names(tmp_path):
    """Torchvision keeps MNIST beside Fashion-MNIST: it is passed by, not called damaged."""
    write_data(tmp_path / "MNIST/raw", checksums=False)
    with pytest.raises(MissingDataError):
        find(tmp_path)
    write_data(tmp_path / "fashion")
    assert find(tmp_path).folder == tmp_path / "fashion"


def test_the_home_folder_in_options_and_environment(fmnist_here, tmp_path, monkeypatch):
    """A shell expands `~` neither in `--data-dir=~/x` nor in every variable."""
    monkeypatch.setenv("HOME", str(tmp_path))
    write_data(tmp_path / "images")
    assert fmnist_here("data", "--data-dir=~/images").returncode == 0
    monkeypatch.setenv("FMNIST_DATA_DIR", "~/images")
    assert fmnist_here("data").returncode == 0
    done = fmnist_here("plan", "~/nowhere.yaml")
    assert f"{tmp_path}/nowhere.yaml: no such file" in done.stderr
