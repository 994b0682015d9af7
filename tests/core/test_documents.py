"""Files in messages: read into text before any model is asked."""

from __future__ import annotations

import base64
import builtins
import io
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aideon_core import documents
from aideon_core.client import Client
from aideon_core.errors import BadRequest, MissingDependency
from aideon_core.request import build
from aideon_testing import FakeBackend


def pdf(*pages, extra=b""):
    """A PDF file with a line of text on each page, written by hand."""
    kids = " ".join(f"{4 + 2 * at} 0 R" for at in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for at, line in enumerate(pages):
        drawn = f"BT /F1 12 Tf 20 100 Td ({line}) Tj ET".encode() if line else b""
        drawn += extra
        page = (
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 200] /Contents {5 + 2 * at} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>"
        )
        objects += [
            page.encode(),
            b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawn), drawn),
        ]
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    return out + (
        b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<< /Size %d /Root 1 0 R >>\n"
        b"startxref\n%d\n%%%%EOF\n" % (len(objects) + 1, table, len(objects) + 1, len(out))
    )


def file_part(data, name=None, mime="application/pdf"):
    file = {"file_data": f"data:{mime};base64,{base64.b64encode(data).decode()}"}
    return {"type": "file", "file": file | ({"filename": name} if name else {})}


def read(part):
    (found,) = documents.as_text([part], "messages[0]")
    assert found["type"] == "text"
    return found["text"]


def test_every_backend_is_asked_with_the_words_of_a_pdf():
    """A PDF in a message arrives at a model as its text, beside what else was said."""
    local = FakeBackend("local", side="local", abilities=frozenset())
    asked = {"type": "text", "text": "What does it say?"}
    message = {"role": "user", "content": [asked, file_part(pdf("Forty-two herons."), "birds.pdf")]}
    with Client(local=local, cloud=None) as client:
        client.chat([message])
    first, second = local.requests[0].messages[0].content
    assert first == asked
    assert second == {
        "type": "text",
        "text": '<document name="birds.pdf">\nForty-two herons.\n</document>\n',
    }


def test_pages_come_in_their_order():
    """Every page is read, an empty line between them."""
    assert "One.\n\nTwo.\n\nThree." in read(file_part(pdf("One.", "Two.", "Three.")))


@pytest.mark.parametrize("mime", ["text/csv", "application/json", "text/markdown", ""])
def test_text_of_any_kind_is_sent_as_it_is(mime):
    """CSV, JSON, Markdown and plain text keep every character, whatever they are called."""
    text = 'name;city\n"Åse";"東京"'
    assert text in read(file_part(text.encode(), "a.csv", mime))


def test_the_bytes_tell_what_a_file_is():
    """A PDF under a wrong type is read as PDF, a text that was called PDF as text."""
    assert "Herons." in read(file_part(pdf("Herons."), mime="text/plain"))
    assert "a,b" in read(file_part(b"a,b", "table.csv", "application/pdf"))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_tells_the_encoding(encoding):
    """Text in UTF-16 or UTF-32 that says so is read, and the mark is no part of it."""
    assert ">\nÅse\n<" in read(file_part("Åse".encode(encoding)))


def test_plain_base64_is_read_too():
    """A file may come without the data URL around it, and in lines."""
    part = {"type": "file", "file": {"file_data": "SGVy\nb25z\r\nLg=="}}
    assert "Herons." in read(part)


def test_a_name_cannot_break_out_of_its_place():
    """Quotes and angle brackets in a file's name stay inside the name."""
    assert '<document name="a&quot;&gt;&lt;b.txt">' in read(file_part(b"x", 'a"><b.txt'))


def encrypted():
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf("Secret."))))
    writer.encrypt("open sesame", algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def doubling():
    """A page whose drawing draws another twice, and that one the next: 2 ** 30 times."""
    from pypdf import PdfReader, PdfWriter
    from pypdf.generic import DictionaryObject, NameObject, StreamObject

    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf("x", extra=b" /Next Do"))))
    inner = None
    for _ in range(30):
        form = StreamObject()
        form.set_data(b"/Next Do /Next Do" if inner else b"0 0 m")
        form[NameObject("/Type")] = NameObject("/XObject")
        form[NameObject("/Subtype")] = NameObject("/Form")
        if inner:
            form[NameObject("/Resources")] = DictionaryObject(
                {NameObject("/XObject"): DictionaryObject({NameObject("/Next"): inner})}
            )
        inner = writer._add_object(form)
    resources = writer.pages[0]["/Resources"]
    resources[NameObject("/XObject")] = DictionaryObject({NameObject("/Next"): inner})
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("part", "problem"),
    [
        (lambda: file_part(pdf("")), "without text"),
        (lambda: file_part(encrypted()), "encrypted"),
        (lambda: file_part(b"%PDF-1.7\nnonsense"), "cannot be read as a PDF"),
        (lambda: file_part(pdf("Herons.")[:40]), "cannot be read as a PDF"),
        (lambda: file_part(b"no such thing", "report.pdf"), "'report.pdf' that is no PDF"),
        (lambda: file_part(b"PK\x03\x04\x00\x00", "report.docx"), "neither PDF nor text"),
        (lambda: file_part("Åse".encode("latin-1"), "a.csv"), "neither PDF nor text in UTF-8"),
        (lambda: file_part(b""), "empty"),
        (lambda: {"type": "file", "file": {"file_id": "file-1"}}, "only referred to"),
        (lambda: {"type": "file"}, "only referred to"),
        (lambda: {"type": "file", "file": {"file_data": "data:text/plain,hi"}}, "without base64"),
        (lambda: {"type": "file", "file": {"file_data": "%%%"}}, "not base64"),
        (lambda: file_part(bytes(documents.MOST_BYTES + 1)), "more than 20 MB"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(part, problem):
    """What is wrong with a file is said before anything is sent, with the message it is in."""
    messages = [{"role": "system", "content": "Hi."}, {"role": "user", "content": [part()]}]
    with pytest.raises(BadRequest, match=problem) as caught:
        build(messages)
    assert caught.value.message.startswith("messages[1] has a file")
    assert caught.value.hint
    assert caught.value.param == "messages[1].content"


def dragging():
    """Many pages of a single operation each, which takes long to read all the same."""
    return pdf(*["x"] * 200, extra=b" <" + b"61" * 20_000 + b"> m")


@pytest.mark.parametrize(
    "page", [pdf("x", extra=b"\n" + b"0 0 m " * 50_000), doubling(), dragging()]
)
def test_a_drawing_without_end_is_stopped(monkeypatch, page):
    """A PDF that takes longer to read than any document does is given up."""
    monkeypatch.setattr(documents, "_MOST_SECONDS", 0.05)
    started = time.monotonic()
    with pytest.raises(BadRequest, match="takes more than 0.05 s to read"):
        read(file_part(page))
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("limit", ["_MOST_PAGES", "_MOST_CHARACTERS", "_MOST_PAGE_BYTES"])
def test_a_document_longer_than_any_context_is_refused(monkeypatch, limit):
    """Pages, what is drawn on one, and characters have their bounds."""
    monkeypatch.setattr(documents, limit, 1)
    with pytest.raises(BadRequest, match="has 2 pages|characters|detail"):
        read(file_part(pdf("One.", "Two.")))


def test_a_document_that_comes_again_is_not_read_again(monkeypatch):
    """A conversation that is sent again with every step has its PDF read once."""
    part = file_part(pdf("Read once."))
    first = read(part)
    monkeypatch.setattr(documents, "_Pdf", None)
    assert read(part) == first


def test_few_documents_are_kept():
    """The texts that are kept for the next step are few, and the newest."""
    for number in range(20):
        read(file_part(pdf(f"Number {number}.")))
    assert [text.strip() for text in documents._kept.values()] == [
        f"Number {number}." for number in range(12, 20)
    ]


@given(st.integers(0, 900), st.binary(max_size=30))
def test_damage_anywhere_is_an_error_of_ours_or_none(at, junk):
    """Whatever a damaged PDF does to its reader, callers see text or a BadRequest."""
    whole = pdf("Forty-two herons.", "And a crane.")
    try:
        read(file_part(whole[:at] + junk + whole[at + len(junk) :], "a.pdf"))
    except BadRequest as error:
        assert error.hint


def test_without_pypdf_the_error_says_what_to_install(monkeypatch):
    """A PDF without pypdf is a MissingDependency with the command that helps."""
    imported = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("pypdf"):
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependency, match=r"pip install 'aideon-core\[pdf\]'"):
        read(file_part(pdf("Storks.")))
    assert "Storks." in read(file_part(b"Storks."))


def test_text_costs_no_reader():
    """A conversation without files imports neither pypdf nor what reads files."""
    probe = (
        "import sys; from aideon_core.request import build; build('Hi.'); "
        "build([{'role': 'user', 'content': [{'type': 'text', 'text': 'Hi.'}]}]); "
        "sys.exit(any(name in sys.modules for name in ('pypdf', 'aideon_core.documents')))"
    )
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0
