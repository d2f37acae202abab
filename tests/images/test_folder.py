import os
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from jaxdesc.errors import UnusableImage
from jaxdesc.images.example import Source
from jaxdesc.images.folder import Folder
from jaxdesc.images.sources import open_source
from jaxdesc.report import pictures, plots
from jaxdesc.vocabulary import imagenet
from tests.report.made_up import layer

TENCH, SHARK, TISSUE = (imagenet.wnids()[index] for index in (0, 2, 999))
NAMES = ["B.jpeg", "a/b/c.png", "a/z.PNG", "a.JPG", "b.png", "c.webp"]


def noise(size=(24, 18), seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def written(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise(seed=len(name)).save(path)
    return Folder(str(root))


def names_of(source):
    return [source.identify(i) for i in range(len(source))]


@pytest.fixture
def folder(tmp_path):
    written(tmp_path / "photos", *NAMES)
    (tmp_path / "photos" / "notes.txt").write_text("not an image")
    (tmp_path / "photos" / "folder.png").mkdir()
    return tmp_path / "photos"


def test_a_folder_is_read_below_and_sorted(folder, monkeypatch):
    source = open_source(f"folder:{folder}")
    assert isinstance(source, Source)
    assert names_of(source) == NAMES
    assert source.spec == f"folder:{folder}"
    assert not source.has_boxes
    assert not source.has_labels
    example = source[NAMES.index("b.png")]
    np.testing.assert_array_equal(example.image, noise(seed=5))
    assert (example.label, example.box) == (None, None)
    monkeypatch.setenv("HOME", str(folder.parent))
    assert len(open_source("folder:~/photos")) == 6


def pil_loader(path):
    """torchvision's `datasets.folder.pil_loader`, which `ImageFolder` uses."""
    with open(path, "rb") as file:
        return Image.open(file).convert("RGB")


FILES = {
    **{mode: (mode, "png", {}) for mode in ("1", "LA", "P", "RGBA")},
    "palette, one colour transparent": ("P", "png", {"transparency": 3}),
    "palette, translucent": ("P", "png", {"transparency": bytes(range(256))}),
    "one grey transparent": ("L", "png", {"transparency": 100}),
    **{f"JPEG, {mode}": (mode, "jpg", {}) for mode in ("L", "RGB", "CMYK")},
    "WebP": ("RGB", "webp", {}),
}


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
@pytest.mark.parametrize("kind", FILES)
def test_every_file_becomes_what_torchvision_sees(tmp_path, kind):
    mode, suffix, options = FILES[kind]
    path = tmp_path / f"image.{suffix}"
    noise().convert(mode).save(path, **options)
    found = Folder(str(tmp_path))[0].image
    assert found.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(found), np.asarray(pil_loader(path)))


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_exif_s_orientation_is_not_applied(tmp_path, suffix):
    """torchvision ignores it, and ImageNet's accuracies were measured so."""
    image = Image.new("RGB", (32, 32))
    image.paste((255, 255, 255), (0, 0, 32, 8))
    exif = image.getexif()
    exif[0x0112] = 3  # upside down
    image.save(tmp_path / f"image.{suffix}", exif=exif.tobytes())
    found = np.asarray(Folder(str(tmp_path))[0].image)
    assert found[:6].min() > 200
    assert found[10:].max() < 50


@pytest.mark.parametrize("kind", ["AVIF", "TIFF"])
def test_another_format_is_named_regardless_of_its_suffix(tmp_path, kind):
    noise().save(tmp_path / "x.jpg", kind)
    with pytest.raises(UnusableImage, match=f"x.jpg' is {kind}, which is not read .convert it to"):
        Folder(str(tmp_path))[0]


def test_a_folder_s_fingerprint(folder):
    before = Folder(str(folder)).fingerprint()
    assert Folder(str(folder)).fingerprint() == before

    def changed():
        nonlocal before
        after = Folder(str(folder)).fingerprint()
        before, differs = after, after != before
        return differs

    stat = (folder / "b.png").stat()
    noise(seed=9).save(folder / "b.png")
    assert changed()
    # A later time counts too: content of the same size may differ.
    os.utime(folder / "b.png", ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert changed()
    (folder / "b.png").rename(folder / "bb.png")
    assert changed()
    noise().save(folder / "new.png")
    assert changed()
    (folder / "notes.txt").write_text("still not an image")
    assert not changed()
    os.mkfifo(folder / "pipe.png")
    (folder / "nowhere.png").symlink_to(folder / "gone.png")
    assert changed()
    assert not changed()


def test_a_link_to_a_photo_or_folder_of_the_folder_is_not_another_photo(folder):
    elsewhere = folder.parent / "elsewhere"
    written(elsewhere, "far.png")
    (folder / "a" / "back").symlink_to(folder)
    (folder / "z").symlink_to(folder / "a")
    (folder / "linked").symlink_to(elsewhere)
    (folder / "link.png").symlink_to(folder / "b.png")
    (folder / "near.png").symlink_to(elsewhere / "far.png")
    source = Folder(str(folder))
    assert names_of(source) == [*NAMES, "linked/far.png", "near.png"]
    assert source.passed_over == (("link.png", "a link to 'b.png'"),)
    (folder / "link.png").unlink()
    # A link to a file that is not listed, as in the caches of git-annex and of Hugging Face.
    for cached in (".git/annex/d.png", "blobs/0123"):
        (folder / cached).parent.mkdir(parents=True)
        (folder / "b.png").rename(folder / cached)
        (folder / "b.png").symlink_to(folder / cached)
        assert names_of(Folder(str(folder))) == [*NAMES, "linked/far.png", "near.png"]
        (folder / "b.png").unlink()
        (folder / cached).rename(folder / "b.png")


# Files, and the categories of each naming in the order of the files.
CATEGORIES = {
    "wnids of folders": ((f"{TENCH}/b.png", f"{SHARK}/val_0001.JPEG"), [(TENCH, SHARK)] * 2),
    "behind a split": ((f"train/{TENCH}/a.png", f"train/{TISSUE}/b.png"), [(TENCH, TISSUE)] * 2),
    "wnids of files": ((f"{SHARK}_great_white.JPEG", f"{TISSUE}.png"), [(SHARK, TISSUE)]),
    "ImageNet's validation": ((f"ILSVRC2012_val_00000293_{SHARK}.JPEG",), [(SHARK,)]),
    "of folders and files": ((f"{TENCH}/a.png", f"{SHARK}_1.png"), [(TENCH, None), (TENCH, SHARK)]),
    "not of all files": ((f"{SHARK}_1.png", "b.png"), []),
    "no wnid": ((f"x{SHARK}_1.png",), []),
    "levels of some": (("Zebra/d.png", "cat/c.png", "cat/kitten/b.png"), [("Zebra", "cat", "cat")]),
    "a stray file": (("b.png", "dog/a.png"), [(None, "dog")]),
    "two levels": (("a/cat/1.png", "b/dog/1.png"), [("a", "b"), ("cat", "dog")]),
    "splits": (("Val/cat/x.png", "train/dog/x.png"), [("cat", "dog")]),
    "splits alone": (("test/b.png", "train/a.png"), []),
    "both": ((f"cat/{SHARK}_1.png", f"dog/{TENCH}_2.png"), [("cat", "dog"), (SHARK, TENCH)]),
    "Stanford's": ((f"{TENCH}-tench/a.png", f"{SHARK} white/b.png"), [(TENCH, SHARK)] * 2),
    "TrashNet's": (("paper/b.png", "trash/a.png"), [("paper", "trash")]),
}


@pytest.mark.parametrize("kind", CATEGORIES)
def test_categories(tmp_path, kind):
    names, expected = CATEGORIES[kind]
    source = written(tmp_path / "photos", *names)
    assert not source.has_labels
    assert sorted(names_of(source)) == sorted(names)
    examples = {source.identify(i): source[i] for i in range(len(source))}
    namings = list(zip(*(examples[name].categories for name in names), strict=True))
    assert namings == expected
    assert list(map(set, source.namings)) == [set(naming) - {None} for naming in namings]
    assert all(example.label is None for example in examples.values())


def test_categories_are_in_natural_order(tmp_path):
    source = written(tmp_path, *(f"class {index}/x.png" for index in (10, 9, 1)))
    assert source.namings == (("class 1", "class 9", "class 10"),)
    (tmp_path / "empty").mkdir()
    assert Folder(str(tmp_path)).namings == source.namings
    assert written(tmp_path / SHARK, "a.png").namings == ((SHARK,),)  # of one class


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("x.heic", "HEIC is not read: convert it to JPEG, PNG or WebP"),
        ("._x.jpg", "hidden"),
        ("a/.thumbnails/x.png", "in the hidden folder '.thumbnails'"),
        ("a/@eaDir/x.jpg/thumb.jpg", "in '@eaDir'"),
        ("x.MOV", "a video is not read: convert it to JPEG, PNG or WebP"),
        ("notes.txt", None),
    ],
)
def test_other_files_are_passed_over_and_listed(tmp_path, name, reason):
    written(tmp_path, "a/photo.png", "photo.jpg")
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(b"")
    source = Folder(str(tmp_path))
    assert names_of(source) == ["a/photo.png", "photo.jpg"]
    assert source.passed_over == (((name, reason),) if reason else ())
    assert source.namings == (("a",),)


@pytest.mark.parametrize("workdir", [".", "runs/out"])
def test_output_of_a_run_is_never_a_photo(tmp_path, workdir):
    """The photos may be in the working directory, or next to it."""
    before = written(tmp_path, "cat/a.png", "dog/b.png")
    out = tmp_path / workdir
    (out / "artifacts" / "activate-0123456789abcdef").mkdir(parents=True)
    for name in ("figures/views", "sweep-2", "explanations/x"):
        plots.save(Figure(), out / Path(name).parent, Path(name).name)
    pictures.exemplar_sheet(list(layer(2, 2, 2)), before, out / "exemplars.png")
    page = out.parent / "page" if workdir != "." else out / "page"
    for report in (out / "report", page):
        written(report, "sheets/0.webp")
        (report / "index.html").write_text('<!doctype>\n<meta name="generator" content="jaxdesc">')
    after = Folder(str(tmp_path))
    assert names_of(after) == names_of(before)
    assert after.fingerprint() == before.fingerprint()
    assert len(after.passed_over) == 9
    assert all("the output of a run" in reason for _, reason in after.passed_over)
    if workdir == ".":  # the user's, with the same names
        assert len(written(tmp_path, "tables/c.png", "figures/d.png")) == 4


def test_a_config_alone_identifies_a_working_directory(tmp_path):
    written(tmp_path, "a.png", "out/exemplars.png")
    config = tmp_path / "out" / "config.json"
    config.write_text('{"config": {}, "versions": {}, "fingerprints": {}}')
    assert len(Folder(str(tmp_path))) == 1
    config.write_text('{"architecture": "resnet50"}')
    assert len(Folder(str(tmp_path))) == 2
