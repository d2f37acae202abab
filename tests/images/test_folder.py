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
from jaxdesc.report import figures, plots
from jaxdesc.vocabulary import imagenet
from tests.report.made_up import layer


def noise(size=(24, 18), seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a/z.PNG", "a/b/c.png", "c.webp", "B.jpeg", "a.JPG"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise(seed=len(name)).save(path)
    (tmp_path / "photos" / "notes.txt").write_text("not an image")
    (tmp_path / "photos" / "folder.png").mkdir()
    return tmp_path / "photos"


def test_a_folder_is_read_below_and_sorted(folder):
    source = open_source(f"folder:{folder}")
    assert isinstance(source, Source)
    names = [source.identify(i) for i in range(len(source))]
    assert names == ["B.jpeg", "a/b/c.png", "a/z.PNG", "a.JPG", "b.png", "c.webp"]
    assert source.spec == f"folder:{folder}"
    assert not source.has_boxes
    assert not source.has_labels
    example = source[names.index("b.png")]
    np.testing.assert_array_equal(example.image, noise(seed=5))
    assert (example.label, example.box) == (None, None)


def test_a_home_folder_is_found(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert len(open_source("folder:~/photos")) == 6


def pil_loader(path):
    """torchvision's `datasets.folder.pil_loader`, which `ImageFolder` uses."""
    with open(path, "rb") as file:
        return Image.open(file).convert("RGB")


def turned(image):
    """EXIF data that turns an image upside down."""
    exif = image.getexif()
    exif[0x0112] = 3
    return exif.tobytes()


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
    image.save(tmp_path / f"image.{suffix}", exif=turned(image))
    found = np.asarray(Folder(str(tmp_path))[0].image)
    assert found[:6].min() > 200
    assert found[10:].max() < 50


def test_sixteen_bits_keep_their_greys(tmp_path):
    """Pillow's conversion clips them: all but the darkest 256 greys would be white."""
    greys = np.linspace(0, 65535, 24 * 18).astype(np.uint16).reshape(18, 24)
    Image.fromarray(greys).save(tmp_path / "deep.png")
    found = np.asarray(Folder(str(tmp_path))[0].image)
    np.testing.assert_array_equal(found, np.repeat((greys // 256)[..., None], 3, axis=2))
    # If Pillow improves, the exception can go.
    assert (np.asarray(pil_loader(tmp_path / "deep.png"))[greys > 255] == 255).all()


@pytest.mark.parametrize(("kind", "format"), [("AVIF", "AVIF"), ("TIFF", "TIFF")])
def test_another_format_is_named_regardless_of_its_suffix(tmp_path, kind, format):
    noise().save(tmp_path / "x.jpg", format)
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


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_damage_is_one_error(tmp_path, suffix):
    """Pillow's parsers raise a dozen types; a file is read, or can't be used."""
    path, rng, refused = tmp_path / f"image.{suffix}", np.random.default_rng(0), 0
    noise((40, 30)).save(path)
    whole, source = path.read_bytes(), Folder(str(tmp_path))
    for _ in range(150):
        damaged = np.frombuffer(whole, np.uint8).copy()
        at = rng.integers(0, min(len(whole), 200), rng.integers(1, 8))
        damaged[at] = rng.integers(0, 256, len(at))
        path.write_bytes(damaged.tobytes()[: rng.integers(1, 2 * len(whole))])
        try:
            assert source[0].image.mode == "RGB"
        except UnusableImage:
            refused += 1
    assert refused > 50


# Links, pipes and circles.


def test_linked_folders_are_read_once(folder):
    (folder / "a" / "back").symlink_to(folder)
    (folder / "z").symlink_to(folder / "a")
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    noise().save(elsewhere / "far.png")
    (folder / "linked").symlink_to(elsewhere)
    (folder / "link.png").symlink_to(folder / "b.png")
    source = Folder(str(folder))
    names = [source.identify(i) for i in range(len(source))]
    expected = ["B.jpeg", "a/b/c.png", "a/z.PNG", "a.JPG", "b.png", "c.webp"]
    assert names == [*expected, "linked/far.png"]
    assert source.passed_over == (("link.png", "a link to 'b.png'"),)
    assert source.fingerprint() == Folder(str(folder)).fingerprint()


def test_pipes_and_dead_links_can_t_be_used(folder):
    os.mkfifo(folder / "pipe.png")
    (folder / "nowhere.png").symlink_to(folder / "gone.png")
    source = Folder(str(folder))
    names = [source.identify(i) for i in range(len(source))]
    with pytest.raises(UnusableImage, match=r"pipe\.png' is not a file: repair or remove it"):
        source[names.index("pipe.png")]
    with pytest.raises(UnusableImage, match=r"nowhere\.png' does not exist"):
        source[names.index("nowhere.png")]
    assert source.fingerprint() == Folder(str(folder)).fingerprint()


# Categories.

TENCH, SHARK, TISSUE = imagenet.wnids()[0], imagenet.wnids()[2], imagenet.wnids()[999]


def write(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise().save(path)


def written(root, *names):
    write(root, *names)
    return Folder(str(root))


@pytest.mark.parametrize(
    ("names", "categories"),
    [
        ((f"{SHARK}/ILSVRC2012_val_0001.JPEG", f"{TENCH}/b.png"), (TENCH, SHARK)),
        ((f"train/{TENCH}/a.png", f"train/{TISSUE}/b.png"), (TENCH, TISSUE)),
        ((f"{SHARK}_great_white_shark.JPEG", f"{TISSUE}.png"), (SHARK, TISSUE)),
        ((f"ILSVRC2012_val_00000293_{SHARK}.JPEG",), (SHARK,)),
        ((f"{TENCH}/a.png", f"{SHARK}_1.png"), (TENCH, SHARK)),
        # A single image without a wnid leaves the naming to the folders.
        ((f"{SHARK}_1.png", "b.png"), (None, None)),
        ((f"x{SHARK}_1.png",), (None,)),
        (
            ("Zebra/d.png", "cat/c.png", "cat/kitten/b.png", "dog/a.png"),
            ("Zebra", "cat", "cat", "dog"),
        ),
        (("b.png", "dog/a.png"), (None, "dog")),
    ],
)
def test_categories(tmp_path, names, categories):
    source = written(tmp_path / "photos", *names)
    assert not source.has_labels
    examples = [source[index] for index in range(len(source))]
    wanted = sorted(category or "" for category in categories)
    namings = list(zip(*(example.categories for example in examples), strict=True))
    found = [sorted(category or "" for category in naming) for naming in namings]
    assert wanted in found or (not found and not any(wanted))
    assert [set(naming) - {None} for naming in namings] == list(map(set, source.namings))
    assert all(example.label is None for example in examples)


def test_levels_of_folders_are_namings_except_splits(tmp_path):
    names = [f"{split}/{pet}/{i}.png" for i in range(2) for split in "ab" for pet in ("cat", "dog")]
    assert written(tmp_path / "parts", *names).namings == (("a", "b"), ("cat", "dog"))
    names = [f"{split}/{pet}/x.png" for split in ("train", "Val") for pet in ("cat", "dog")]
    assert written(tmp_path / "splits", *names).namings == (("cat", "dog"),)
    assert written(tmp_path / "alone", "train/a.png", "test/b.png").namings == ()
    names = [f"cat/{SHARK}_1.png", f"dog/{TENCH}_2.png"]
    assert written(tmp_path / "both", *names).namings == (("cat", "dog"), (TENCH, SHARK))
    names = [f"{TENCH}-tench/a.png", f"{SHARK} great white/b.png"]
    assert (TENCH, SHARK) in written(tmp_path / "stanford", *names).namings


def test_a_link_to_a_photo_of_the_folder_is_not_another_photo(tmp_path):
    write(tmp_path, "cat/a.png", "dog/b.png")
    write(tmp_path.parent / "elsewhere", "c.png")
    (tmp_path / "also.png").symlink_to(tmp_path / "cat" / "a.png")
    (tmp_path / "all").symlink_to(tmp_path / "cat")
    (tmp_path / "dog" / "c.png").symlink_to(tmp_path.parent / "elsewhere" / "c.png")
    source = Folder(str(tmp_path))
    found = [source.identify(i) for i in range(len(source))]
    assert found == ["cat/a.png", "dog/b.png", "dog/c.png"]
    assert source.passed_over == (("also.png", "a link to 'cat/a.png'"),)
    (tmp_path / "also.png").unlink()
    # A link to a file that is not listed, as in the caches of git-annex and of Hugging Face.
    for cached in (".git/annex/d.png", "blobs/0123"):
        (tmp_path / cached).parent.mkdir(parents=True)
        (tmp_path / "cat" / "a.png").rename(tmp_path / cached)
        (tmp_path / "cat" / "a.png").symlink_to(tmp_path / cached)
        assert len(Folder(str(tmp_path))) == 3
        (tmp_path / "cat" / "a.png").unlink()
        (tmp_path / cached).rename(tmp_path / "cat" / "a.png")


def test_categories_are_in_natural_order_and_enter_the_fingerprint(tmp_path):
    names = [f"class {index}/x.png" for index in (10, 9, 1)]
    source = written(tmp_path, *names)
    assert source.namings == (("class 1", "class 9", "class 10"),)
    before = source.fingerprint()
    (tmp_path / "empty").mkdir()
    assert Folder(str(tmp_path)).namings == source.namings
    (tmp_path / "class 9").rename(tmp_path / "class 8")
    assert Folder(str(tmp_path)).fingerprint() != before


def test_a_folder_of_one_class(tmp_path):
    root = tmp_path / SHARK
    assert written(root, "a.png").namings == ((SHARK,),)


# Files that are not photos.


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("x.heic", "HEIC is not read: convert it to JPEG, PNG or WebP"),
        ("._x.jpg", "hidden"),
        ("a/.thumbnails/x.png", "in the hidden folder '.thumbnails'"),
        ("a/@eaDir/x.jpg/thumb.jpg", "in '@eaDir'"),
        ("__MACOSX/x.png", "in '__MACOSX'"),
        ("x.MOV", "a video is not read: convert it to JPEG, PNG or WebP"),
        ("notes.txt", None),
    ],
)
def test_other_files_are_passed_over_and_listed(tmp_path, name, reason):
    written(tmp_path, "a/photo.png", "photo.jpg")
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(b"")
    source = Folder(str(tmp_path))
    assert [source.identify(i) for i in range(2)] == ["a/photo.png", "photo.jpg"]
    assert source.passed_over == (((name, reason),) if reason else ())
    assert source.namings == (("a",),)


def test_a_class_may_be_named_like_a_bin(tmp_path):
    """As in TrashNet."""
    assert written(tmp_path, "trash/a.png", "paper/b.png").namings == (("paper", "trash"),)


@pytest.mark.parametrize("workdir", [".", "runs/out"])
def test_output_of_a_run_is_never_a_photo(tmp_path, workdir):
    """The photos may be in the working directory, or next to it."""
    before = written(tmp_path, "cat/a.png", "dog/b.png")
    names = [before.identify(i) for i in range(len(before))]
    out = tmp_path / workdir
    (out / "artifacts" / "activate-0123456789abcdef").mkdir(parents=True)
    drawn = Figure()
    for name in ("figures/views", "sweep-2", "explanations/x"):
        plots.save(drawn, out / Path(name).parent, Path(name).name)
    figures.exemplar_sheet(list(layer(2, 2, 2)), before, out / "exemplars.png")
    write(out, "report/sheets/0.webp")
    (out / "report" / "index.html").write_text('<meta name="generator" content="jaxdesc">')
    page = out.parent / "page" if workdir != "." else out / "page"
    write(page, "sheets/0.webp")
    (page / "index.html").write_text('<!doctype html>\n<meta name="generator" content="jaxdesc">')
    after = Folder(str(tmp_path))
    assert [after.identify(i) for i in range(len(after))] == names
    assert after.fingerprint() == before.fingerprint()
    assert len(after.passed_over) == 9
    assert all("the output of a run" in reason for _, reason in after.passed_over)
    if workdir == ".":  # the user's, with the same names
        write(tmp_path, "tables/c.png", "figures/d.png")
        assert len(Folder(str(tmp_path))) == len(names) + 2


def test_an_explanation_among_photos_is_not_one(tmp_path):
    write(tmp_path, "a.png")
    plots.save(Figure(), tmp_path, "why")
    assert Folder(str(tmp_path)).passed_over == tuple(
        (f"why.{kind}", "the output of a run") for kind in ("png", "svg")
    )


def test_a_config_alone_identifies_a_working_directory(tmp_path):
    written(tmp_path / "photos", "a.png")
    write(tmp_path / "photos" / "out", "exemplars.png")
    config = tmp_path / "photos" / "out" / "config.json"
    config.write_text('{"config": {}, "versions": {}, "fingerprints": {}}')
    assert len(Folder(str(tmp_path / "photos"))) == 1
    config.write_text('{"architecture": "resnet50"}')
    assert len(Folder(str(tmp_path / "photos"))) == 2
