"""Small files of the types that buckets take, written by hand: each holds the word that is asked for."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

WORD = "otter"
NAMESPACES = 'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"'
RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
TYPES = "application/vnd.openxmlformats-officedocument"


def zipped(members: Mapping[str, str | bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            # The type of a book or document is found without unpacking anything.
            kind = zipfile.ZIP_STORED if name == "mimetype" else zipfile.ZIP_DEFLATED
            # Of no time: tests are named by these bytes, and are to be found again by their names.
            archive.writestr(zipfile.ZipInfo(name), data, kind)
    return made.getvalue()


def _relations(*targets: tuple[str, str]) -> str:
    items = "".join(
        f'<Relationship Id="rId{at}" Type="{OFFICE}/{kind}" Target="{target}"/>'
        for at, (kind, target) in enumerate(targets, 1)
    )
    return f'<?xml version="1.0"?><Relationships xmlns="{RELATIONS}">{items}</Relationships>'


def _content_types(**parts: str) -> str:
    overrides = "".join(
        f'<Override PartName="/{name}" ContentType="{TYPES}.{kind}+xml"/>' for name, kind in parts.items()
    )
    return (
        '<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Default Extension="xml" ContentType="application/xml"/>{overrides}</Types>'
    )


def docx(word: str = WORD, before: str = "") -> bytes:
    main = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    return zipped(
        {
            "[Content_Types].xml": _content_types(**{"word/document.xml": "wordprocessingml.document.main"}),
            "_rels/.rels": _relations(("officeDocument", "word/document.xml")),
            "word/document.xml": f'<?xml version="1.0"?>{before}<w:document xmlns:w="{main}"><w:body><w:p><w:r>'
            f"<w:t>The {word} swims.</w:t></w:r></w:p></w:body></w:document>",
        }
    )


def xlsx(word: str = WORD, rows: int = 2) -> bytes:
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    cells = "".join(
        f'<row r="{row}"><c r="A{row}" t="inlineStr"><is><t>{word}</t></is></c><c r="B{row}"><v>{row}</v></c></row>'
        for row in range(1, rows + 1)
    )
    return zipped(
        {
            "[Content_Types].xml": _content_types(
                **{"xl/workbook.xml": "spreadsheetml.sheet.main", "xl/worksheets/sheet1.xml": "spreadsheetml.worksheet"}
            ),
            "_rels/.rels": _relations(("officeDocument", "xl/workbook.xml")),
            "xl/_rels/workbook.xml.rels": _relations(("worksheet", "worksheets/sheet1.xml")),
            "xl/workbook.xml": f'<?xml version="1.0"?><workbook xmlns="{main}" {NAMESPACES}><sheets>'
            '<sheet name="Animals" sheetId="1" r:id="rId1"/></sheets></workbook>',
            "xl/worksheets/sheet1.xml": f'<?xml version="1.0"?><worksheet xmlns="{main}"><sheetData>{cells}'
            "</sheetData></worksheet>",
        }
    )


def pptx(word: str = WORD) -> bytes:
    main = "http://schemas.openxmlformats.org/presentationml/2006/main"
    drawing = "http://schemas.openxmlformats.org/drawingml/2006/main"
    spaces = f'xmlns:p="{main}" xmlns:a="{drawing}" {NAMESPACES}'
    group = '<p:nvGrpSpPr><p:cNvPr id="1" name=""/><p:cNvGrpSpPr/><p:nvPr/></p:nvGrpSpPr><p:grpSpPr/>'
    tree = (
        f"{group}"
        '<p:sp><p:nvSpPr><p:cNvPr id="2" name="Title"/><p:cNvSpPr txBox="1"/><p:nvPr/></p:nvSpPr><p:spPr/>'
        f"<p:txBody><a:bodyPr/><a:p><a:r><a:t>The {word} swims.</a:t></a:r></a:p></p:txBody></p:sp>"
    )
    empty = f"<p:cSld><p:spTree>{group}</p:spTree></p:cSld>"
    kinds = {
        "ppt/presentation.xml": "presentationml.presentation.main",
        "ppt/slides/slide1.xml": "presentationml.slide",
        "ppt/slideLayouts/slideLayout1.xml": "presentationml.slideLayout",
        "ppt/slideMasters/slideMaster1.xml": "presentationml.slideMaster",
    }
    return zipped(
        {
            "[Content_Types].xml": _content_types(**kinds),
            "_rels/.rels": _relations(("officeDocument", "ppt/presentation.xml")),
            "ppt/_rels/presentation.xml.rels": _relations(
                ("slide", "slides/slide1.xml"), ("slideMaster", "slideMasters/slideMaster1.xml")
            ),
            "ppt/presentation.xml": f'<?xml version="1.0"?><p:presentation {spaces}><p:sldMasterIdLst>'
            '<p:sldMasterId id="2147483648" r:id="rId2"/></p:sldMasterIdLst><p:sldIdLst><p:sldId id="256" r:id="rId1"/>'
            '</p:sldIdLst><p:sldSz cx="9144000" cy="6858000"/><p:notesSz cx="6858000" cy="9144000"/></p:presentation>',
            "ppt/slides/_rels/slide1.xml.rels": _relations(("slideLayout", "../slideLayouts/slideLayout1.xml")),
            "ppt/slides/slide1.xml": f'<?xml version="1.0"?><p:sld {spaces}><p:cSld><p:spTree>{tree}</p:spTree>'
            "</p:cSld></p:sld>",
            "ppt/slideLayouts/_rels/slideLayout1.xml.rels": _relations(
                ("slideMaster", "../slideMasters/slideMaster1.xml")
            ),
            "ppt/slideLayouts/slideLayout1.xml": f'<?xml version="1.0"?><p:sldLayout {spaces}>{empty}</p:sldLayout>',
            "ppt/slideMasters/_rels/slideMaster1.xml.rels": _relations(
                ("slideLayout", "../slideLayouts/slideLayout1.xml")
            ),
            "ppt/slideMasters/slideMaster1.xml": f'<?xml version="1.0"?><p:sldMaster {spaces}>{empty}</p:sldMaster>',
        }
    )


def epub(word: str = WORD) -> bytes:
    return zipped(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": '<?xml version="1.0"?><container version="1.0" '
            'xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles><rootfile full-path="book.opf" '
            'media-type="application/oebps-package+xml"/></rootfiles></container>',
            "book.opf": '<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf" version="3.0"><metadata '
            'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>Rivers</dc:title></metadata><manifest>'
            '<item id="a" href="a.xhtml" media-type="application/xhtml+xml"/></manifest><spine><itemref idref="a"/>'
            "</spine></package>",
            "a.xhtml": '<?xml version="1.0"?><!DOCTYPE html><html xmlns="http://www.w3.org/1999/xhtml"><body><p>The '
            f"{word} swims.</p></body></html>",
        }
    )


def opendocument(kind: str, body: str, before: str = "") -> bytes:
    """`kind`: text, spreadsheet or presentation."""
    names = ("office", "text", "table", "drawing:draw")
    spaces = " ".join(
        f'xmlns:{name.rpartition(":")[2]}="urn:oasis:names:tc:opendocument:xmlns:{name.partition(":")[0]}:1.0"'
        for name in names
    )
    return zipped(
        {
            "mimetype": f"application/vnd.oasis.opendocument.{kind}",
            "content.xml": f'<?xml version="1.0"?>{before}<office:document-content {spaces} '
            f'xmlns:xlink="http://www.w3.org/1999/xlink"><office:body><office:{kind}>{body}</office:{kind}></office:body>'
            "</office:document-content>",
        }
    )


def odt(word: str = WORD, before: str = "") -> bytes:
    return opendocument("text", f"<text:p>The {word} swims.</text:p>", before)


def ods(word: str = WORD) -> bytes:
    cell = f"<table:table-cell><text:p>{word}</text:p></table:table-cell>"
    rows = f'<table:table-row>{cell}<table:table-cell table:number-columns-repeated="16383"/></table:table-row>'
    rows += '<table:table-row table:number-rows-repeated="1048575"><table:table-cell/></table:table-row>'
    return opendocument("spreadsheet", f'<table:table table:name="Animals">{rows}</table:table>')


def odp(word: str = WORD) -> bytes:
    return opendocument("presentation", f"<draw:page><text:p>The {word} swims.</text:p></draw:page>")


def pdf(word: str = WORD, pages: int = 1, script: str = "") -> bytes:
    """With a cross-reference table, as programs write it."""
    text = f"BT /F1 18 Tf 20 100 Td (The {word} swims.) Tj ET".encode()
    action = f"/OpenAction<</S/JavaScript/JS({script})>>" if script else ""
    kids = " ".join(f"{at} 0 R" for at in range(5, 5 + pages))
    objects = [
        f"<</Type/Catalog/Pages 2 0 R{action}>>".encode(),
        f"<</Type/Pages/Count {pages}/Kids[{kids}]>>".encode(),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(text), text),
    ]
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 144]/Contents 4 0 R/Resources<</Font<</F1 3 0 R>>>>>>"
    body, places = bytearray(b"%PDF-1.4\n"), []
    for number, data in enumerate([*objects, *[page] * pages], 1):
        places.append(len(body))
        body += b"%d 0 obj%s\nendobj\n" % (number, data)
    start = len(body)
    body += b"xref\n0 %d\n0000000000 65535 f \n" % (len(places) + 1)
    body += b"".join(b"%010d 00000 n \n" % place for place in places)
    return bytes(body + b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (len(places) + 1, start))


def notebook(word: str = WORD) -> bytes:
    cells = f'[{{"cell_type":"markdown","source":["# The {word}"]}},{{"cell_type":"code","source":"print(1)"}}]'
    return f'{{"cells":{cells},"metadata":{{}},"nbformat":4}}'.encode()


def simple(word: str = WORD) -> dict[str, bytes]:
    """What is read without the extra, by name."""
    return {
        "a.txt": f"Der {word} schwimmt, für 5 €.".encode(),
        "b.md": f"# {word}".encode("utf-8-sig"),
        "c.py": f"print('{word} 🦦')".encode("utf-16"),
        "d.log": f"café {word}".encode("cp1252"),
        "e.json": f'{{"animal": "{word}"}}'.encode(),
        "f.csv": f"animal;legs\n{word};4\n".encode(),
        "g.html": f"<title>T</title><h1>A</h1><p>The <b>{word}</b> swims.</p><script>bad()</script>".encode(),
        "h.ipynb": notebook(word),
        "i.zip": zipped({"x/y.txt": f"The {word} swims."}),
        "j.svg": f'<svg xmlns="http://www.w3.org/2000/svg"><text>{word}</text></svg>'.encode(),
        "p.odt": odt(word),
        "q.ods": ods(word),
        "r.odp": odp(word),
    }


def heavy(word: str = WORD) -> dict[str, bytes]:
    """What is read with it."""
    return {
        "k.pdf": pdf(word),
        "l.docx": docx(word),
        "m.xlsx": xlsx(word),
        "n.pptx": pptx(word),
        "o.epub": epub(word),
    }
