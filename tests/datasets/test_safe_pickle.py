"""Pickles: what NumPy and pickle write comes back, and nothing that they could do is done."""

import collections
import datetime
import os
import pathlib
import pickle
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fdp_core.datasets import ParseError, safe_pickle
from fdp_core.datasets.safe_pickle import loads, read_npy

FILE = pathlib.Path("query_image_dict.npy")
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
SCALAR = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(st.characters(codec="utf-8"))
)
VALUE = st.recursive(
    SCALAR,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=6), inner, max_size=4),
    ),
    max_leaves=20,
)


@QUICK
@given(value=VALUE, protocol=st.sampled_from(PROTOCOLS))
def test_plain_values_round_trip(value, protocol):
    read = loads(pickle.dumps(value, protocol), FILE)
    assert read == value and repr(read) == repr(value), "equal, and of the same types"


ARRAYS = [
    np.array({"new york": ["a.jpg"]}, dtype=object),
    np.array([["x", ["y", "z"]], [None, 2]], dtype=object),
    np.asfortranarray(np.array([["x", ["y", "z"]], [None, 2]], dtype=object)),
    np.array(["a", "longer", "北京"]),
    np.array(["é"], dtype=">U3"),
    np.array([[1, 2], [3, 4]], order="F"),
    np.array([1, 2], dtype=">i2"),
    np.array([1.5, -2.0], dtype="f4"),
    np.array([True, False]),
    np.array(3.5),
]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_arrays_round_trip(array, protocol, old):
    data = pickle.dumps({"files": array, "again": [array]}, protocol)
    if old:  # as NumPy 1 writes: another name of the module, of another length before it
        for new, name in ((b"numpy._core.multiarray", b"numpy.core.multiarray"),
                          (b"numpy._core.numeric", b"numpy.core.numeric")):  # fmt: skip
            data = data.replace(bytes([len(new)]) + new, bytes([len(name)]) + name).replace(new, name)
        data = unframed(data)
    read = loads(data, FILE)
    assert list(read) == ["files", "again"]
    for found in (read["files"], read["again"][0]):
        assert isinstance(found, np.ndarray) and found.dtype == array.dtype and found.shape == array.shape
        assert found.tolist() == array.tolist()


def unframed(data):
    """Take the frame out of a pickle of protocol 4 or 5, whose length no longer fits."""
    return data[:2] + data[11:] if data[2:3] == b"\x95" else data


def test_text_of_numpy_and_bytes_become_text():
    value = {
        np.str_("open"): [np.str_("a.jpg"), np.str_("")],
        "n": np.int64(3),
        "x": np.float32(2.5),
        "b": b"caf\xc3\xa9",
    }
    read = loads(pickle.dumps(value, 4), FILE)
    assert read == {"open": ["a.jpg", ""], "n": 3, "x": 2.5, "b": "café"}
    assert {type(key) for key in read} == {str} and type(read["n"]) is int and type(read["open"][0]) is str
    assert loads(pickle.dumps(np.array([b"caf\xc3\xa9"]), 4), FILE).tolist() == ["café"]


def test_text_of_python_2():
    # pickle.dumps({'caf\xc3\xa9': ['a.jpg', u'b.jpg']}, 2) in Python 2, where text was bytes
    data = b"\x80\x02}q\x00U\x05caf\xc3\xa9q\x01]q\x02(U\x05a.jpgq\x03X\x05\x00\x00\x00b.jpgq\x04es."
    assert loads(data, FILE) == {"café": ["a.jpg", "b.jpg"]}
    # the same in protocol 0, with escapes
    assert loads(b"(dp0\nS'open'\np1\n(lp2\nS'a.jpg'\np3\nas.", FILE) == {"open": ["a.jpg"]}


class Calls:
    """Pickles as a call of some function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (os.system, ("touch MARK",), "system"),
        (eval, ("open('MARK', 'w')",), "eval"),
        (exec, ("open('MARK', 'w')",), "exec"),
        (pathlib.Path.touch, (pathlib.PurePosixPath("MARK"),), "PurePosixPath|getattr|Path.touch|pathlib"),
        (getattr, (os, "system"), "getattr|import|module"),
        (np.load, ("MARK",), "numpy.load"),
        (np.fromfile, ("MARK",), "fromfile"),
    ],
)  # fmt: skip
def test_functions_are_named_and_not_called(tmp_path, monkeypatch, protocol, function, arguments, name):
    monkeypatch.chdir(tmp_path)
    try:
        data = pickle.dumps({"open": [Calls(function, *arguments)]}, protocol)
    except (TypeError, pickle.PicklingError):  # a module cannot be pickled: written by hand as in old exploits
        data = b"cbuiltins\ngetattr\n(cos\nsystem\ntR."
    with pytest.raises(ParseError, match=f"query_image_dict.npy: the pickle wants .*({name})") as caught:
        loads(data, FILE)
    assert "Nothing of it was run" in str(caught.value)
    assert not (tmp_path / "MARK").exists()


class Own:
    """A class with a state of its own, whose module is this one."""

    def __setstate__(self, state):
        raise AssertionError("called")

    def __getstate__(self):
        return {"a": 1}


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Own(), "Own|copy_?reg"),
        (Own, "Own"),
        (collections.OrderedDict(a=1), "collections.OrderedDict"),
        (collections.defaultdict(list), "collections.defaultdict"),
        (datetime.date(2024, 1, 1), "datetime.date"),
        (1j, "complex"),
        ({1, 2}, "set|EMPTY_SET"),
        (bytearray(b"x"), "bytearray"),
        (np.array([1j]), "NumPy does not make|dtype"),
        (np.array(["2024-01-01"], dtype="M8[D]"), "NumPy does not make|dtype"),
        (np.zeros(2, dtype=[("a", "i4"), ("b", "O")]), "NumPy does not make|dtype"),
        (np.random.default_rng(0), "numpy.random"),
        (np.ma.array([1]), "numpy.ma"),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_other_kinds_are_refused_by_name(value, name, protocol):
    with pytest.raises(ParseError, match=f"the pickle wants .*({name})"):
        loads(pickle.dumps({"a": value}, protocol), FILE)


@pytest.mark.parametrize(
    "data",
    [
        b"(S'touch MARK'\nios\nsystem\n.",  # INST
        b"\x80\x02Ppersistent\n.",
        b"\x80\x02K\x01Q.",  # BINPERSID
        b"\x80\x02\x82\x01.",  # EXT1: a code that a program may have registered
        b"\x80\x02cnumpy\nndarray\n)\x81.",  # NEWOBJ
        b"\x80\x02cnumpy\nndarray\n.",  # the class itself
        b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00O8\x85R.",  # a dtype itself
        b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93.",
        b"\x80\x04K\x01K\x02\x93.",  # a name that is no text
        b"\x80\x02(cos\nsystem\no.",  # OBJ
        b"\x80\x05\x97.",  # NEXT_BUFFER
        b"cnum\\qy\nndarray\n.",  # an escape in a name
        b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.",
        b"\x80\x02]K\x01b.",  # BUILD on a list
        b"\x80\x02K\x05K\x01R.",  # a call of a number
    ],
)
def test_opcodes_by_hand(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParseError, match="the pickle wants"):
        loads(data, FILE)
    assert not os.listdir(tmp_path)


def array_state(shape, dtype, flags, data):
    """Write a pickle of an array by hand, with any state."""

    class Dtype:
        def __reduce__(self):
            return np.dtype, (dtype, False, True), (3, "<", None, None, None, -1, -1, flags)

    class Array:
        def __reduce__(self):
            return np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), (1, shape, Dtype(), False, data)

    return pickle.dumps(Array(), 4)


def test_states_that_numpy_would_believe():
    assert loads(array_state((2,), "i2", 0, b"\1\0\2\0"), FILE).tolist() == [1, 2]
    assert loads(array_state((2,), "O8", 63, ["a", "b"]), FILE).tolist() == ["a", "b"]
    for shape, dtype, flags, data in (
        ((1,), "O8", 0, struct.pack("<Q", 12345)),  # an object at an address of the attacker's choice
        ((1,), "O8", 63, b"12345678"),
        ((2,), "i8", 0, b"12345678"),  # larger than its data
        ((2**40, 2**40), "i8", 0, b""),
        ((-1,), "i8", 0, b"12345678"),
        ((3,), "O8", 63, ["a"]),
        (("x",), "O8", 63, ["a"]),
        ((1,) * 99, "i1", 0, b"1"),
        (1, "i1", 0, b"1"),
        ((1,), "U1", 0, b"\xff\xff\xff\xff"),  # no such character
    ):
        with pytest.raises(ParseError, match="query_image_dict.npy: the pickle wants"):
            loads(array_state(shape, dtype, flags, data), FILE)


def test_claims_and_bombs():
    too_long = [
        b"\x80\x03B\xff\xff\xff\x7fabc.",  # two gigabytes of bytes, three there
        b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"abc.",
        b"\x80\x05\x96" + struct.pack("<Q", 2**62) + b"abc.",
        b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N",
    ]
    for data in too_long:
        with pytest.raises(ParseError, match="not a whole pickle"):
            loads(data, FILE)
    assert loads(b"\x80\x02]r\xff\xff\xff\xff.", FILE) == [], "a number of the memo is only a name"
    laughs = (
        b"\x80\x04]\x94" + b"".join(b"]\x94(" + b"h" + bytes([n]) + b"h" + bytes([n]) + b"e" for n in range(30)) + b"."
    )
    with pytest.raises(ParseError, match="more than 1,000,000"):
        loads(laughs, FILE)
    pairs = b"".join(b"h" + bytes([n]) + b"h" + bytes([n]) + b"\x86\x94" for n in range(60))
    with pytest.raises(ParseError, match="a key of type tuple"):  # to hash the last pair takes 2 to the 60 steps
        loads(b"\x80\x04\x8c\x01a\x94" + pairs + b"}h\x3cK\x01s.", FILE)
    deep = b"\x80\x04" + b"]" * 40 + b"a" * 39 + b"."
    with pytest.raises(ParseError, match="nested deeper than 32"):
        loads(deep, FILE)
    assert loads(b"\x80\x04" + b"]" * 30 + b"a" * 29 + b".", FILE) != []
    itself = []
    itself.append(itself)
    with pytest.raises(ParseError, match="nested deeper"):
        loads(pickle.dumps(itself), FILE)
    with pytest.raises(ParseError, match="more than 1,000,000 steps"):
        loads(b"\x80\x04(" + b"N" * 1_000_001 + b"l.", FILE)


NOTHING = [b"", b"\x80", b"\x80\x04]", b".", b"a.", b"u.", b"\x80\x04h\x05.", b"<html>", b"\xff\xfe.", b"I12x\n."]


@pytest.mark.parametrize("data", [*NOTHING, b"\x80\x04(N\x85ss.", b"\x80\x04]N]\x94Nsa."])
def test_what_is_not_a_pickle(data):
    with pytest.raises(ParseError, match="query_image_dict.npy: (not a whole pickle|the pickle wants)"):
        loads(data, FILE)


@QUICK
@given(data=st.binary(max_size=60), protocol=st.sampled_from(PROTOCOLS), cut=st.integers(0, 10**6))
def test_any_bytes_end_in_a_value_or_one_error(data, protocol, cut):
    whole = pickle.dumps({"phrase": np.array(["a.jpg"], dtype=object)}, protocol)
    place = cut % len(whole)
    for damaged in (data, whole[:place], whole[:place] + data + whole[place + 1 :]):
        try:
            loads(damaged, FILE)
        except ParseError as error:
            assert error.path == FILE


def save(path, value, version=(1, 0), **options):
    array = np.asanyarray(value, dtype=object) if isinstance(value, dict) else np.asanyarray(value)
    with path.open("wb") as stream:
        np.lib.format.write_array(stream, array, version, **options)


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_npy_of_a_dict(tmp_path, version):
    path = tmp_path / "d.npy"
    save(path, {"happy birthday": ["a.jpg", "b.jpg"]}, version)
    array = read_npy(path)
    assert array.shape == () and array.item() == {"happy birthday": ["a.jpg", "b.jpg"]}
    np.save(path, {"happy birthday": ["a.jpg", "b.jpg"]})
    assert read_npy(path).item() == array.item()
    np.save(path, np.array([{"a": 1}, None], dtype=object))
    assert read_npy(path).tolist() == [{"a": 1}, None]


def test_npy_that_is_none(tmp_path, monkeypatch):
    path = tmp_path / "d.npy"
    path.write_bytes(b"<html>please log in</html>" * 9)
    with pytest.raises(ParseError, match="d.npy: not a .npy file"):
        read_npy(path)
    np.save(path, np.arange(3))
    with pytest.raises(ParseError, match=r"expected a pickled dict \(dtype object\), found an array of int64"):
        read_npy(path)
    np.save(path, np.zeros(2, dtype=[("a", "O")]), allow_pickle=True)
    with pytest.raises(ParseError, match="expected a pickled dict"):
        read_npy(path)
    save(path, {"a": ["b"]})
    whole = path.read_bytes()
    for damaged in (whole[:40], whole[:-9], whole[:6] + b"\x07\x07" + whole[8:]):
        path.write_bytes(damaged)
        with pytest.raises(ParseError, match="d.npy: not a"):
            read_npy(path)
    head = whole[: 10 + struct.unpack("<H", whole[8:10])[0]]
    for content in (["b"], np.array(["b", "c"], dtype=object), np.array(1.5)):
        path.write_bytes(head + pickle.dumps(content))
        with pytest.raises(ParseError, match=r"the header promises objects of shape \(\)"):
            read_npy(path)
    path.write_bytes(head + pickle.dumps(Calls(os.system, "touch MARK")))
    with pytest.raises(ParseError, match="the pickle wants .*system"):
        read_npy(path)
    path.write_bytes(
        b"\x93NUMPY\x01\x00" + struct.pack("<H", 60) + b"__import__('os').system('touch MARK')".ljust(59) + b"\n"
    )
    with pytest.raises(ParseError, match="not a .npy file"):
        read_npy(path)
    monkeypatch.setattr(safe_pickle, "MAX_BYTES", 20)
    with pytest.raises(ParseError, match="below 20"):
        read_npy(path)
    with pytest.raises(ParseError, match="more than 20"):
        loads(bytes(21), FILE)
    with pytest.raises(FileNotFoundError):
        read_npy(tmp_path / "gone.npy")
