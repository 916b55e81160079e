"""Pickles in .npy files: what NumPy writes comes back, and nothing that a pickle could do is done."""

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

from fdp_core.datasets import ParseError, readers
from fdp_core.datasets.readers import read_npy

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
NAMES = st.text(st.characters(codec="utf-8"), max_size=6)
HEAD = {"descr": "|O", "fortran_order": False, "shape": ()}


def write(path, pickled):
    """Write a .npy file of one object whose pickle is given."""
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, HEAD)
        stream.write(pickled)
    return path


def save(path, value, version=(1, 0)):
    with path.open("wb") as stream:
        np.lib.format.write_array(stream, np.asanyarray(value, dtype=object), version)
    return path


@QUICK
@given(value=st.dictionaries(NAMES, st.lists(NAMES, max_size=4), max_size=4))
def test_lists_of_names_round_trip(tmp_path, value):
    np.save(tmp_path / "d.npy", value)
    read = read_npy(tmp_path / "d.npy").item()
    assert read == value and repr(read) == repr(value), "equal, and of the same types"


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_what_numpy_writes_for_objects(tmp_path, version):
    path = save(tmp_path / "d.npy", {"happy birthday": ["a.jpg", "b.jpg"]}, version)
    array = read_npy(path)
    assert array.shape == () and array.item() == {"happy birthday": ["a.jpg", "b.jpg"]}
    save(path, {"é": np.array(["a.jpg", "北京"]), np.str_("b"): [np.str_("c.jpg")]}, version)
    read = read_npy(path).item()
    assert read["é"].tolist() == ["a.jpg", "北京"] and read["b"] == ["c.jpg"]
    np.save(path, np.array([{"a": 1}, None], dtype=object))
    assert read_npy(path).tolist() == [{"a": 1}, None]


@pytest.mark.parametrize("protocol", range(3, pickle.HIGHEST_PROTOCOL + 1))
def test_what_numpy_1_writes(tmp_path, protocol):
    data = pickle.dumps(np.array({"open": ["a.jpg"]}, dtype=object), protocol)
    new, old = b"numpy._core.multiarray", b"numpy.core.multiarray"
    data = data.replace(bytes([len(new)]) + new, bytes([len(old)]) + old).replace(new, old)
    data = data[:2] + data[11:] if data[2:3] == b"\x95" else data  # without the frame, whose length no longer fits
    assert b"_core" not in data
    assert read_npy(write(tmp_path / "d.npy", data)).item() == {"open": ["a.jpg"]}


def test_text_of_python_2(tmp_path):
    # np.save of {'caf\xc3\xa9': ['a.jpg', u'b.jpg']} in Python 2, where text was bytes
    content = b"}U\x05caf\xc3\xa9](U\x05a.jpgX\x05\x00\x00\x00b.jpges"
    data = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01)cnumpy\ndtype\n"
        b"U\x02O8K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb\x89]" + content + b"atb."
    )
    assert read_npy(write(tmp_path / "d.npy", data)).item() == {"café": ["a.jpg", "b.jpg"]}


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
        (np.array, (Calls(os.system, "touch MARK"),), "array|system"),  # one inside the other
    ],
)  # fmt: skip
def test_functions_are_named_and_not_called(tmp_path, monkeypatch, protocol, function, arguments, name):
    monkeypatch.chdir(tmp_path)
    try:
        data = pickle.dumps({"open": [Calls(function, *arguments)]}, protocol)
    except (TypeError, pickle.PicklingError):  # a module cannot be pickled: written by hand as in old exploits
        data = b"cbuiltins\ngetattr\n(cos\nsystem\ntR."
    with pytest.raises(ParseError, match=f"d.npy: .*the pickle wants .*({name})") as caught:
        read_npy(write(tmp_path / "d.npy", data))
    assert "nothing of it ran" in str(caught.value)
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
        (np.random.default_rng(0), "numpy.random"),
        (np.ma.array([1]), "numpy.ma"),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_other_kinds_are_refused_by_name(tmp_path, value, name, protocol):
    with pytest.raises(ParseError, match=f"the pickle wants .*({name})"):
        read_npy(write(tmp_path / "d.npy", pickle.dumps({"a": value}, protocol)))


@pytest.mark.parametrize(
    "data",
    [
        b"(S'touch MARK'\nios\nsystem\n.",  # INST
        b"\x80\x02Ppersistent\n.",
        b"\x80\x02K\x01Q.",  # BINPERSID
        b"\x80\x02\x82\x01.",  # EXT1: a code that a program may have registered
        b"\x80\x02cnumpy\nndarray\n.",  # the class itself
        b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00O8\x85R.",  # a dtype itself
        b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93.",
        b"\x80\x04K\x01K\x02\x93.",  # a name that is no text
        b"\x80\x02(cos\nsystem\no.",  # OBJ
        b"\x80\x05\x97.",  # NEXT_BUFFER
        b"\x80\x04\x8c\x05numpy\x94\x8c\x13ndarray.__reduce__\x94\x93.",  # through an attribute
        b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.",
        b"\x80\x02]K\x01b.",  # BUILD on a list
        b"\x80\x02K\x05K\x01R.",  # a call of a number
        b"\x80\x03B\xff\xff\xff\x7fabc.",  # two gigabytes of bytes, three there
        b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"abc.",
        b"\x80\x05\x96" + struct.pack("<Q", 2**62) + b"abc.",
        b"", b"\x80", b"\x80\x04]", b".", b"a.", b"u.", b"\x80\x04h\x05.", b"<html>", b"\xff\xfe.", b"I12x\n.",
        b"\x80\x04(N\x85ss.", b"\x80\x04]N]\x94Nsa.",
    ],
)  # fmt: skip
def test_opcodes_by_hand(data, tmp_path, monkeypatch):
    path = write(tmp_path / "d.npy", data)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParseError, match="d.npy: "):
        read_npy(path)
    assert os.listdir(tmp_path) == ["d.npy"]


@QUICK
@given(data=st.binary(max_size=60), protocol=st.sampled_from(PROTOCOLS), cut=st.integers(0, 10**6))
def test_any_bytes_end_in_a_value_or_one_error(tmp_path, data, protocol, cut):
    whole = pickle.dumps({"phrase": np.array(["a.jpg"], dtype=object)}, protocol)
    place = cut % len(whole)
    for damaged in (data, whole[:place], whole[:place] + data + whole[place + 1 :]):
        try:
            read_npy(write(tmp_path / "d.npy", damaged))
        except ParseError as error:
            assert error.path == tmp_path / "d.npy"


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
    for content in (["b"], np.array(["b", "c"], dtype=object), np.array(1.5)):
        with pytest.raises(ParseError, match=r"the header promises objects of shape \(\)"):
            read_npy(write(path, pickle.dumps(content)))
    header = b"__import__('os').system('touch MARK')".ljust(59) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", 60) + header)
    with pytest.raises(ParseError, match="not a .npy file"):
        read_npy(path)
    monkeypatch.setattr(readers, "MAX_PICKLE", 20)
    with pytest.raises(ParseError, match="below 20"):
        read_npy(path)
    with pytest.raises(FileNotFoundError):
        read_npy(tmp_path / "gone.npy")
