"""A model's Markdown becomes DOM nodes, and its text is never parsed as HTML."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.server.page.conftest import Library

pytestmark = pytest.mark.asyncio(loop_scope="session")

RENDER = """
  const shown = (pieces) => {
    const box = document.createElement("div");
    const view = new markdown.MarkdownView(box);
    for (const piece of pieces) {
      view.append(piece);
      view.flush();
    }
    return box.innerHTML;
  };
"""


async def render(in_browser: Library, *texts: str) -> list[str]:
    found: list[str] = await in_browser(
        RENDER + "return given.map((text) => shown([text]));", list(texts)
    )
    return found


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("one\ntwo\n\nthree", "<p>one<br>two</p><p>three</p>"),
        ("# One\n#hash\n## Two", "<h3>One</h3><p>#hash</p><h4>Two</h4>"),
        ("**b** *i* `c` ~~s~~", "<p><strong>b</strong> <em>i</em> <code>c</code> <s>s</s></p>"),
        ("**a *b* c**", "<p><strong>a <em>b</em> c</strong></p>"),
        ("***both***", "<p><em><strong>both</strong></em></p>"),
        ("**a *b***", "<p><strong>a <em>b</em></strong></p>"),
        ("*a **b***", "<p><em>a <strong>b</strong></em></p>"),
        ("***a** b*", "<p><em><strong>a</strong> b</em></p>"),
        ("***a* b**", "<p><strong><em>a</em> b</strong></p>"),
        ("___a___ **b**c** ****", "<p><em><strong>a</strong></em> <strong>b</strong>c** ****</p>"),
        ("snake_case_name 2 * 3 * 4", "<p>snake_case_name 2 * 3 * 4</p>"),
        ("**never closed", "<p>**never closed</p>"),
        (r"\*no\* ``a ` b``", "<p>*no* <code>a ` b</code></p>"),
        ("- a\n- b\n  - c\n- d", "<ul><li>a</li><li>b<ul><li>c</li></ul></li><li>d</li></ul>"),
        ("3. a\n4. b", '<ol start="3"><li>a</li><li>b</li></ol>'),
        (
            "- x\n\n1. a\n2. b\n* c",
            '<ul><li>x</li></ul><ol start="1"><li>a</li><li>b</li></ol><ul><li>c</li></ul>',
        ),
        ("- a\n  1. b", '<ul><li>a<ol start="1"><li>b</li></ol></li></ul>'),
        (
            "1. do\n   ```sh\n   ls\n   ```\n2. done",
            '<ol start="1"><li>do<pre tabindex="0" data-language="sh"><code>ls</code></pre></li>'
            "<li>done</li></ol>",
        ),
        ("> a\n> b\n\nc", "<blockquote><p>a<br>b</p></blockquote><p>c</p>"),
        ("a\n\n---\nb", "<p>a</p><hr><p>b</p>"),
        ("```\n**x**\n\n# y", '<pre tabindex="0"><code>**x**\n\n# y</code></pre>'),
        (
            "so:\n| a | *b* | c |\n|---|:-:|--:|\n| `1` | x \\| y |\n| 2 | 3 | 4 | 5 |\n\nthen",
            "<p>so:</p><table><thead><tr><th>a</th>"
            '<th align="center"><em>b</em></th><th align="right">c</th></tr></thead>'
            '<tbody><tr><td><code>1</code></td><td align="center">x | y</td></tr>'
            '<tr><td>2</td><td align="center">3</td><td align="right">4</td></tr></tbody></table>'
            "<p>then</p>",
        ),
        ("| a | b |\n|---|\n| 1 |", "<p>| a | b |<br>|---|<br>| 1 |</p>"),
    ],
)
async def test_markdown_becomes_html(in_browser: Library, text: str, html: str) -> None:
    assert await render(in_browser, text) == [html]


async def test_links_lead_only_to_http(in_browser: Library) -> None:
    shown = await in_browser(
        """
        const { inline } = await import("/static/markdown_inline.js");
        const box = document.createElement("div");
        box.append(...given.flatMap((text) => [...inline(text), " | "]));
        const links = [...box.querySelectorAll("a")];
        const told = links.map(({ href, rel, textContent }) => [href, rel, textContent]);
        return [told, box.textContent];
        """,
        [
            "[a](https://example.org/x?y=1)",
            "see http://example.org/b, or",
            "[no](javascript:alert(1))",
            "[no](data:text/html,x)",
            "![an image](https://example.org/c.png)",
            "[bad](https://[)",
            "[worse](https://x:y)",
        ],
    )
    rel = "noopener noreferrer nofollow"
    assert shown[0] == [
        ["https://example.org/x?y=1", rel, "a"],
        ["http://example.org/b", rel, "http://example.org/b"],
        ["https://example.org/c.png", rel, "an image"],
    ]
    assert "[no](javascript:alert(1))" in shown[1]
    assert "[no](data:text/html,x)" in shown[1]
    assert shown[1].endswith("[bad](https://[) | [worse](https://x:y) | ")


async def test_a_url_may_have_parentheses_and_a_title(in_browser: Library) -> None:
    shown = await in_browser(
        """
        const box = document.createElement("div");
        const { inline } = await import("/static/markdown_inline.js");
        box.append(...given.flatMap((text) => inline(text)));
        const links = [...box.querySelectorAll("a")];
        return [links.map(({ href, title }) => [href, title]), box.textContent];
        """,
        [
            "https://en.wikipedia.org/wiki/Foo_(bar), ",
            "(see https://example.org/a) ",
            "[wiki](https://en.wikipedia.org/wiki/Foo_(bar)) ",
            "[a](http://example.org/ \"a title\") [b](http://example.org/ 'another')",
        ],
    )
    wiki = "https://en.wikipedia.org/wiki/Foo_(bar)"
    assert shown[0] == [
        [wiki, wiki],
        ["https://example.org/a", "https://example.org/a"],
        [wiki, wiki],
        ["http://example.org/", "a title (http://example.org/)"],
        ["http://example.org/", "another (http://example.org/)"],
    ]
    assert shown[1] == f"{wiki}, (see https://example.org/a) wiki a b"


async def test_tags_in_the_text_are_shown_as_text(in_browser: Library) -> None:
    """Model text must not be inserted as HTML."""
    hostile = [
        "<script>alert(1)</script>",
        "# <img src=x onerror=alert(1)>",
        "```html\n<iframe src=javascript:alert(1)>\n```",
        "`<b>` **<i onclick=alert(1)>x</i>**",
        "- <svg/onload=alert(1)>",
        '[<img src=x onerror=alert(1)>](https://example.org/"onmouseover=alert(1))',
        "```<img/onerror=alert(1)>\nx\n```",
        "| <img src=x onerror=alert(1)> |\n|---|\n| <b onclick=alert(1)>x</b> |",
    ]
    names, texts = await in_browser(
        """
        const box = document.createElement("div");
        const texts = given.map((text) => {
          new markdown.MarkdownView(box).append(text);
          const view = new markdown.MarkdownView(box);
          view.append(text);
          view.flush();
          return box.textContent;
        });
        return [[...box.querySelectorAll("*")].map(({ localName }) => localName), texts];
        """,
        hostile,
    )
    assert set(names) <= {
        *("p", "h3", "pre", "code", "strong", "ul", "li", "a"),
        *("table", "thead", "tbody", "tr", "th", "td"),
    }
    assert "<script>alert(1)</script>" in texts[0]
    assert "<img src=x onerror=alert(1)>" in texts[1]


def cut(text: str, chance: random.Random) -> list[str]:
    places = sorted(chance.choices(range(len(text) + 1), k=chance.randint(0, 25)))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


async def test_the_output_does_not_depend_on_how_the_text_is_split(in_browser: Library) -> None:
    chance = random.Random(6)
    parts = ["# ", "- ", "1. ", "  ", "> ", "```", "`", "**", "*", "_", "\n", "\n", "\n\n", "---"]
    parts += ["word", " ", "~~~py", "[a](https://b.c)", "https://b.c", "~~", "    x", "#"]
    parts += ["***", "* ", "1) ", "[", "| a | *b* |\n", "|---|:-:|\n", "| 1 ", "|", "|-|\n"]
    parts += ["\n- ", "\n1. ", "\n* ", " *b* `c` ", "(https://b.c/d_(e))", '[a](https://b "c")']
    texts = ["".join(chance.choices(parts, k=chance.randint(1, 40))) for _ in range(800)]
    texts += [start + "".join(chance.choices(parts, k=90)) for start in ("```\n", "- a\n", "w ")]
    cases: list[dict[str, Any]] = [{"whole": text, "pieces": cut(text, chance)} for text in texts]
    different = await in_browser(
        RENDER + "return given.filter(({ whole, pieces }) => shown([whole]) !== shown(pieces));",
        cases,
    )
    assert different == []


@pytest.mark.parametrize(
    "piece",
    [
        *(
            "*",
            "**a ",
            "[",
            "`",
            "_a",
            "- ",
            "> ",
            "](",
            "<https://",
            "``` ",
            "# ",
            "a`` ",
            "![x](",
        ),
        *("***a ", "|", "|a\n|-\n", "https://a(", "[a](http://a ", "a_(b)", "[a](http://a(b"),
    ],
)
async def test_no_text_makes_it_slow(in_browser: Library, piece: str) -> None:
    """200,000 characters at once: if it weren't linear, this test wouldn't end."""
    size = await in_browser(
        RENDER + "return shown([given.repeat(200000 / given.length)]).length;", piece
    )
    assert size > 0


async def test_finished_blocks_are_not_created_again(in_browser: Library) -> None:
    same = await in_browser(
        """
        const box = document.createElement("div");
        const view = new markdown.MarkdownView(box);
        view.append("first\\n\\nsecond\\n\\nthird\\n");
        view.flush();
        const [first, second] = box.children;
        view.append("and on\\n\\nfourth\\n\\n");
        view.flush();
        return [first === box.children[0], second === box.children[1], box.children.length];
        """
    )
    assert same == [True, True, 4]


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        ("", "- item **bold**\n"),
        ("", "1. one\n   more of it\n\n"),
        ("```py\n", "some = code\n"),
        ("| a | b |\n|---|---|\n", "| *one* | two |\n"),
        ("", "word *and* `code` "),
        ("", "a line with **bold** words\n"),
        ("", "plain words\n"),
        ("", "| a row of no table |\n"),
    ],
)
async def test_finished_parts_of_the_last_block_are_not_created_again(
    in_browser: Library, begin: str, more: str
) -> None:
    """Each of 2,000 pieces of a block creates as few nodes as the first ones and removes none, so
    that a selection survives."""
    made, removed, html, whole = await in_browser(
        RENDER
        + """
        const { begin, more } = given;
        const box = document.createElement("div");
        const view = new markdown.MarkdownView(box);
        view.append(begin + more.repeat(3));
        view.flush();
        let made = 0;
        const { createElement } = document;
        document.createElement = (name) => {
          made += 1;
          return createElement.call(document, name);
        };
        const observer = new MutationObserver(() => {});
        observer.observe(box, { childList: true, subtree: true });
        for (let i = 0; i < 2000; i += 1) {
          view.append(more);
          view.flush();
        }
        delete document.createElement;
        const removed = observer.takeRecords().flatMap(({ removedNodes }) => [...removedNodes]);
        const elements = removed.filter((node) => node instanceof Element).length;
        return [made / 2000, elements, box.innerHTML, shown([begin + more.repeat(2003)])];
        """,
        {"begin": begin, "more": more},
    )
    assert made < 15
    assert removed == 0
    assert html == whole
