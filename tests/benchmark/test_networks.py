from jaxdesc.benchmark.networks import Repeated
from jaxdesc.scenes.source import Scenes


def test_a_source_repeated_until_there_are_enough():
    source = Scenes("count=3")
    more = Repeated(source, 7)
    assert len(more) == 7
    assert more.fingerprint() != source.fingerprint() != Repeated(source, 8).fingerprint()
    for index in range(7):
        assert more.identify(index) == source.identify(index % 3)
        assert more[index].image.tobytes() == source[index % 3].image.tobytes()
    assert (more.has_boxes, more.has_labels) == (source.has_boxes, source.has_labels)
