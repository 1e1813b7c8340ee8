"""What a file is called that is of no type that is taken, by its first bytes: its sender learns what was sent."""

import itertools
import re

_LOST = "\N{REPLACEMENT CHARACTER}".encode()  # what stands for a byte that is no UTF-8

# What the file begins with -> what it is called.
_NAMES = {
    b"\0\0\0\x0cjP  \r\n": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\0\0\0\x0cJXL \r\n": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\1\0": "an icon (ICO)",
    b"\0\0\2\0": "a cursor (CUR)",
    b"8BPS": "Photoshop (PSD)",
    b"gimp xcf": "GIMP (XCF)",
    b"qoif": "QOI",
    b"DDS ": "DirectDraw (DDS)",
    b"v/1\1": "OpenEXR",
    b"#?RADIANCE": "Radiance (HDR)",
    b"SIMPLE  =": "FITS",
    b"\x8aMNG": "MNG",
    b"\xd7\xcd\xc6\x9a": "a Windows metafile (WMF)",
    b"FUJIFILMCCD-RAW": "a raw photograph (RAF)",
    b"IIRO": "a raw photograph (ORF)",
    b"IIRS": "a raw photograph (ORF)",
    b"IIU\0": "a raw photograph (RW2)",
    b"FOVb": "a raw photograph (X3F)",
    b"\x93NUMPY": "a NumPy array",
    b"\x89HDF": "HDF5",
    b"PK\3\4": "ZIP",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"7z\xbc\xaf\x27\x1c": "7-Zip",
    b"Rar!": "RAR",
    b"\x1aE\xdf\xa3": "a film (Matroska, WebM)",
    b"\0\5\x16\7": "what macOS keeps beside a file (AppleDouble, ._NAME)",
    b"\xd0\xcf\x11\xe0": "a file of Windows or Office (Thumbs.db, .doc)",
    # Pictures whose bytes did not come through.
    b"\xc2\x89PNG": "a PNG that was sent as text, not as bytes",
    _LOST + b"PNG": "a PNG that was read as text, not as bytes",
    b"\xc3\xbf\xc3\x98\xc3\xbf": "a JPEG that was sent as text, not as bytes",
    _LOST * 3: "a JPEG, or another file, that was read as text, not as bytes",
    b"\x89PNG\n": "a PNG whose line ends were changed on its way",
    b"\x89PNG\r\r": "a PNG whose line ends were changed on its way",
    b"\x89PNG\x1a": "a PNG whose line ends are gone, as curl -d sends it: take --data-binary",
}

# The same for text, in lower case, behind a byte order mark and white space.
_TEXTS = {
    b"%pdf-": "PDF",
    b"%!ps": "PostScript",
    b"<svg": "SVG",
    b"<?xml": "XML",
    b"<!doctype html": "HTML",
    b"<html": "HTML",
    b"{": "JSON",
    b"http://": "an address, not what is there",
    b"https://": "an address, not what is there",
    b"version https://git-lfs": "a pointer of Git LFS, not the file",
    b"data:image/": "a data: URL",
    b"ivborw0kggo": "PNG in base64",
    b"/9j/": "JPEG in base64",
    b"uklgr": "WebP in base64",
    b"r0lgod": "GIF in base64",
}

_NETPBM = re.compile(rb"P[1-7]\s")
_FORM = re.compile(rb"--.{1,200}\r?\ncontent-disposition:", re.IGNORECASE)
_FIELD = re.compile(rb"[\w.\[\]%-]{1,64}=(?:data(?::|%3A)|iVBORw0KGgo|(?:/|%2F)9j(?:/|%2F)|UklGR|R0lGOD)")
_DICOM = 128  # where its magic bytes stand


def foreign_name(data: bytes) -> str | None:
    """What the file is called, None where its beginning does not tell."""
    if data[4:8] == b"ftyp":
        return "a film (MP4, QuickTime)" if not data.startswith(b"crx ", 8) else "a raw photograph (CR3)"
    if data.startswith(b"DICM", _DICOM):
        return "DICOM"
    if data.startswith(b"RIFF"):
        return {b"AVI ": "a film (AVI)", b"WAVE": "sound (WAVE)"}.get(data[8:12])
    if _NETPBM.match(data):
        return "Netpbm (PBM, PGM, PPM)"
    if _FORM.match(data):
        return "a form without its Content-Type"
    if _FIELD.match(data):
        return "a picture in base64 in the field of a form that is no multipart/form-data"
    text = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    beginnings = itertools.chain(((data, *row) for row in _NAMES.items()), ((text, *row) for row in _TEXTS.items()))
    return next((name for head, magic, name in beginnings if head.startswith(magic)), None)
