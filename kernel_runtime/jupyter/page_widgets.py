"""Widgets of a guest: only ipywidgets' own models pass, with texts and addresses made harmless.

JupyterLab writes the values of HTML widgets into the page as they are, loads whatever module a
model names (anywidget brings its own script), and copies values between models by links. So each
state that opens or changes a model is checked against what its model may hold; a model that may not
be is replaced by a standard one that says so, where the guest would have shown its own.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from kernel_runtime.jupyter import page_css, page_text
from kernel_runtime.jupyter.cleaning import clean_bundle, clean_metadata
from kernel_runtime.jupyter.page_hosts import QUIET, Page, is_granted, is_own
from kernel_runtime.jupyter.page_html import clean_fragment, clean_html
from kernel_runtime.jupyter.page_states import States
from kernel_runtime.jupyter.page_svg import own_classes

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from kernel_runtime.jupyter.page_states import Told

    State = dict[str, Any]

MODULES = frozenset({"@jupyter-widgets/base", "@jupyter-widgets/controls", "@jupyter-widgets/output"})
_VERSION = re.compile(r"[\^~]?\d+(?:\.\d+){0,2}|\*")
_HTML = frozenset({"HTMLModel", "HTMLMathModel"})
_MEDIA = frozenset({"ImageModel", "VideoModel", "AudioModel"})
_LINKS = frozenset({"LinkModel", "DirectionalLinkModel"})
_ENDS = ("source", "target")
#: What a link may copy from model to model without passing here again: numbers, choices, plain texts.
_LINKED = frozenset(
    {"value", "min", "max", "step", "index", "selected_index", "disabled", "interval", "playing"}
)
#: ipywidgets' own classes, by what their models' names begin with (a test holds the list to the release).
_STANDARD = """
    Accordion Audio BoundedFloatText BoundedIntText Box Button ButtonStyle Checkbox CheckboxStyle
    ColorPicker ColorsInput Combobox ControllerAxis ControllerButton Controller DOMWidget DatePicker
    Datetime DescriptionStyle DirectionalLink Dropdown FileUpload FloatLogSlider FloatProgress
    FloatRangeSlider FloatSlider FloatText FloatsInput GridBox HBox HTMLMath HTMLMathStyle HTML HTMLStyle
    Image IntProgress IntRangeSlider IntSlider IntText IntsInput Label LabelStyle Layout Link NaiveDatetime
    Output Password Play Progress ProgressStyle RadioButtons Select SelectMultiple SelectionRangeSlider
    SelectionSlider SliderStyle Stack Style Tab TagsInput Text TextStyle Textarea Time ToggleButton
    ToggleButtonStyle ToggleButtons ToggleButtonsStyle VBox Valid Video
"""
STANDARD = frozenset(_STANDARD.split())
_IDENTITY = frozenset(
    {
        "_model_name",
        "_model_module",
        "_model_module_version",
        "_view_name",
        "_view_module",
        "_view_module_version",
    }
)
#: What names a model in the control comm's answer.
_NAMED = ("model_name", "model_module", "model_module_version")
_FORMAT = re.compile(r"[a-z0-9][a-z0-9.+-]{0,20}")
_REFERENCE = "IPY_MODEL_"
#: What a custom message may ask of a widget (``DOMWidget.focus`` and ``blur``).
_WISHES = ("focus", "blur")


class Refused(Exception):
    """A model that may not be, or may not change so: why, for a person."""


class Widgets:
    """The widget models of a guest that are in the page, by the id of their comm.

    ``focus``: the guest may move the keyboard to one of them (what a person types then goes to it).
    ``others``: models that are not the guest's (the front's panels). It may not take their ids,
    nor put them into boxes of its own, where its words would stand around the front's buttons. ``held``:
    takes what the page is told.
    """

    def __init__(
        self,
        page: Page = QUIET,
        others: Collection[str] = (),
        *,
        focus: bool = True,
        held: States | None = None,
    ) -> None:
        self._page = page
        self._others = others
        self._focus = focus
        self._held = States() if held is None else held
        self._models: dict[str, str] = {}
        self._refused: set[str] = set()
        self._html: set[str] = set()

    def __contains__(self, model: object) -> bool:
        return model in self._models

    def clear(self) -> None:
        """The guest is gone; what its models show stays, and changes no more."""
        self._held.lose()
        self._models.clear()
        self._refused.clear()
        self._html.clear()

    def close(self, model: str) -> None:
        """Forget a model."""
        self._held.close(model)
        self._models.pop(model, None)
        self._refused.discard(model)
        self._html.discard(model)

    def open(self, model: str, data: State, buffers: list[bytes]) -> State:
        """The data of a ``comm_open`` as it may pass: the guest's own, or a note in its place."""
        state = data.get("state")
        paths = data.get("buffer_paths", [])
        try:
            passed = self._opened(model, state if isinstance(state, dict) else {}, paths, buffers)
        except Refused as error:
            buffers.clear()
            self._models[model], paths = "HTMLModel", []
            self._refused.add(model)
            passed = substitute(state, str(error))
        self._held.open(model, passed, paths, buffers)
        return {"state": passed, "buffer_paths": paths}

    def states(self, data: State, buffers: list[bytes]) -> State | None:
        """The data of the control comm's answer: every model's state at once."""
        if data.get("method") != "update_states" or not isinstance(data.get("states"), dict):
            return None
        given = {
            model: each
            for model, each in data["states"].items()
            if isinstance(each, dict) and model not in self._others
        }
        try:
            paths = _paths(data.get("buffer_paths", []), buffers)
        except Refused:
            return None
        mine: dict[str, list[tuple[Any, bytes]]] = {}
        for path, buffer in zip(paths, buffers, strict=True):
            if len(path) > 2 and path[1] == "state":
                mine.setdefault(str(path[0]), []).append((path[2:], buffer))
        found: State = {}
        kept_paths, kept = [], []
        self._held.begin()
        for model in sorted(
            given, key=lambda each: str(given[each].get("model_name")) in _LINKS
        ):  # ends first
            own = [buffer for _, buffer in mine.get(model, ())]
            whole = {
                "state": given[model].get("state"),
                "buffer_paths": [path for path, _ in mine.get(model, ())],
            }
            self.close(model)
            opened = self.open(model, whole, own)
            kept_paths += [[model, "state", *path] for path in opened["buffer_paths"]]
            kept += own
            state = opened["state"]
            found[model] = {
                "model_name": state["_model_name"],
                "model_module": state["_model_module"],
                "model_module_version": state.get("_model_module_version", "*"),
                "state": state,
            }
        buffers[:] = kept
        return {"method": "update_states", "states": found, "buffer_paths": kept_paths}

    def message(self, model: str, data: State, buffers: list[bytes]) -> State | None:
        """The data of a ``comm_msg`` as it may pass, or None when nothing of it does."""
        name = self._models.get(model)
        if name is None or model in self._refused:
            return None
        if data.get("method") == "custom":
            buffers.clear()
            return self._custom(data.get("content"))
        state = data.get("state")
        if data.get("method") not in ("update", "echo_update") or not isinstance(state, dict):
            return None
        try:
            if not _IDENTITY.isdisjoint(state) or "_esm" in state or "_css" in state:
                raise Refused("a model cannot become another one")
            paths = _paths(data.get("buffer_paths", []), buffers)
            passed = self._checked(model, name, state, paths, buffers)
        except Refused:
            buffers.clear()
            return None
        self._held.change(model, passed, paths, buffers)
        return {"method": data["method"], "state": passed, "buffer_paths": paths}

    def told(self, model: str) -> Told | None:
        """The state of a model as the page was told it. A link is looked at again: its ends may be others by now."""
        told = self._held.told(model)
        if told is not None and self._models.get(model) in _LINKS:
            ends = {end: msgspec.json.decode(told.state[end]) for end in _ENDS if end in told.state}
            try:
                self._check_link(ends)
            except Refused:
                return None
        return told

    def all_told(self) -> tuple[State, list[list[Any]], list[bytes]]:
        """Every state, with the buffers and where each belongs, as the control comm answers."""
        found: State = {}
        paths, buffers = [], list[bytes]()
        for model in self._held:
            told = self.told(model)
            if told is None:
                continue
            named = {name: told.state.get(f"_{name}", "*") for name in _NAMED}
            found[model] = named | {"state": told.state}
            paths += [[model, "state", *path] for path in told.paths]
            buffers += told.buffers
        return found, paths, buffers

    def _custom(self, content: Any) -> State | None:
        """A message to the views: ipywidgets' own know two, and take no others from a kernel."""
        wish = content.get("do") if isinstance(content, dict) and len(content) == 1 else None
        if not self._focus or wish not in _WISHES:
            return None
        return {"method": "custom", "content": {"do": wish}}

    def _opened(self, model: str, state: State, paths: Any, buffers: list[bytes]) -> State:
        name, view = state.get("_model_name"), state.get("_view_name")
        for key in ("_model_module", "_view_module"):
            if str(state.get(key)) not in MODULES and not (key == "_view_module" and view is None):
                module = page_text.one_line(str(state.get(key)), 80)
                raise Refused(
                    f"this widget is not shown: it needs the script of {module!r}, and only ipywidgets' "
                    "own widgets may run in the page. Show a picture or a whole HTML document instead."
                )
        if (
            not _is_standard(name, "Model")
            or not (view is None or _is_standard(view, "View"))
            or "_esm" in state
        ):
            shown = page_text.one_line(str(name), 80)
            raise Refused(f"this widget is not shown: {shown!r} is not one of ipywidgets' own.")
        for key in ("_model_module_version", "_view_module_version"):
            if state.get(key) is not None and not _VERSION.fullmatch(str(state[key])):
                raise Refused("this widget is not shown: its version is none.")
        identity = {key: state[key] for key in _IDENTITY if key in state}
        rest = {key: value for key, value in state.items() if key not in _IDENTITY}
        checked = self._checked(model, str(name), rest, _paths(paths, buffers), buffers)
        self._models[model] = str(name)
        return identity | checked

    def _checked(
        self, model: str, name: str, state: State, paths: Sequence[Sequence[Any]], buffers: list[bytes]
    ) -> State:
        _check_buffers(name, state, paths, buffers, self._page.hosts)
        if self._others and _names_any(state, self._others):
            raise Refused("this widget is not shown: it contains a part of a panel of the kernel.")
        state = {key: self._text(name, key, value) for key, value in state.items()}
        if name in _LINKS:
            self._check_link(state)
        if name == "OutputModel" and "outputs" in state:
            state["outputs"] = self._outputs(state["outputs"])
        self._describe(model, state)
        return state

    def _text(self, name: str, key: str, value: Any) -> Any:
        """One value of a state: what the page reads as markup, formula, style or class is cleaned."""
        if name in _HTML and key in ("value", "placeholder"):
            clean: Callable[..., str] = clean_html if key == "value" else clean_fragment
            return clean(value, self._page) if isinstance(value, str) else ""
        if key in ("value", "placeholder") and name == "LabelModel" and isinstance(value, str):
            return page_text.clean_tex(value)
        if key == "_dom_classes":
            return (
                [own_classes(each) for each in value if isinstance(each, str)]
                if isinstance(value, list)
                else []
            )
        if name.endswith(("StyleModel", "LayoutModel")) and isinstance(value, str):
            return value if page_css.value_passes(value) else None
        return value

    def _describe(self, model: str, state: State) -> None:
        """A description is text; as HTML it is only when it comes with the wish, and cleaned."""
        if state.get("description_allow_html"):
            if isinstance(state.get("description"), str):
                self._html.add(model)
            elif model not in self._html:
                state["description_allow_html"] = False
        elif "description_allow_html" in state:
            self._html.discard(model)
        for key in ("description", "tooltip"):
            if isinstance(text := state.get(key), str):
                state[key] = (
                    clean_fragment(text, self._page) if model in self._html else page_text.clean_tex(text)
                )

    def _check_link(self, state: State) -> None:
        for end in _ENDS:
            if end not in state:
                continue
            pair = state[end]
            model, trait = pair if isinstance(pair, list) and len(pair) == 2 else (None, None)
            known = self._models.get(str(model).removeprefix(_REFERENCE), "")
            if str(trait) not in _LINKED or not known or known in _HTML | _MEDIA | _LINKS or "Style" in known:
                raise Refused("this link between widgets is not made: it could carry unchecked text.")

    def _outputs(self, outputs: Any) -> list[Any]:
        return (
            [clean_output(each, self._page, self) for each in outputs if isinstance(each, dict)]
            if isinstance(outputs, list | tuple)
            else []
        )


def clean_output(output: State, page: Page, models: Widgets | None = None) -> State:
    """One output of nbformat as it may pass."""
    match output.get("output_type"):
        case "stream":
            name = "stderr" if output.get("name") == "stderr" else "stdout"
            text = output.get("text")
            text = "".join(map(str, text)) if isinstance(text, list) else str(text)
            return {"output_type": "stream", "name": name, "text": page_text.clean_terminal(text)}
        case "display_data" | "execute_result" as kind:
            data, metadata = (output.get(part) for part in ("data", "metadata"))
            data, metadata = (part if isinstance(part, dict) else {} for part in (data, metadata))
            found: State = {
                "output_type": kind,
                "data": clean_bundle(data, metadata, page, models),
                "metadata": clean_metadata(metadata),
            }
            if kind == "execute_result":
                count = output.get("execution_count")
                found["execution_count"] = count if isinstance(count, int) else None
            return found
        case "error":
            lines = output.get("traceback")
            lines = lines if isinstance(lines, list) else []
            return {
                "output_type": "error",
                "ename": page_text.clean_terminal(str(output.get("ename", ""))),
                "evalue": page_text.clean_terminal(str(output.get("evalue", ""))),
                "traceback": [page_text.clean_terminal(str(line)) for line in lines],
            }
    return {"output_type": "stream", "name": "stderr", "text": "kernel_runtime: an output of no known type\n"}


def substitute(state: Any, why: str) -> State:
    """A standard model that shows a note where a refused one would stand."""
    layout = state.get("layout") if isinstance(state, dict) else None
    known = isinstance(layout, str) and re.fullmatch(_REFERENCE + r"[\w-]{1,64}", layout)
    return {
        "_model_module": "@jupyter-widgets/controls",
        "_model_module_version": "2.0.0",
        "_model_name": "HTMLModel",
        "_view_module": "@jupyter-widgets/controls",
        "_view_module_version": "2.0.0",
        "_view_name": "HTMLView",
        "_dom_classes": [],
        "layout": layout if known else None,
        "value": page_text.note(why),
    }


def _names_any(value: Any, models: Collection[str]) -> bool:
    """Whether one of ``models`` is named anywhere in a state: the page puts them in wherever they are."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            if each.startswith(_REFERENCE) and each[len(_REFERENCE) :] in models:
                return True
        elif isinstance(each, dict):
            waiting += each.values()
        elif isinstance(each, list | tuple):
            waiting += each
    return False


def _is_standard(name: Any, kind: str) -> bool:
    return isinstance(name, str) and name.endswith(kind) and name.removesuffix(kind) in STANDARD


def _paths(paths: Any, buffers: Sequence[bytes]) -> list[list[Any]]:
    if not isinstance(paths, list) or len(paths) != len(buffers):
        raise Refused("this widget is not shown: its buffers have no place.")
    for path in paths:
        if not isinstance(path, list) or not path or not all(isinstance(step, str | int) for step in path):
            raise Refused("this widget is not shown: its buffers have no place.")
    return paths


def _check_buffers(
    name: str, state: State, paths: Sequence[Sequence[Any]], buffers: Sequence[bytes], hosts: frozenset[str]
) -> None:
    """Bytes may be a picture's, sound's or file's value, never a text that was to be cleaned."""
    for path in paths:
        if path[0] != "value" or name not in _MEDIA | {"FileUploadModel"}:
            raise Refused("this widget is not shown: bytes stand in place of a text.")
    if name not in _MEDIA or "format" not in state:
        return
    kind = state["format"]
    if kind == "url":
        # an address is taken from the value: only from one that comes along, and is granted
        address = bytes(buffers[0]).decode("utf-8", "replace") if len(buffers) == 1 else ""
        if not (is_own(address) or is_granted(address, hosts)):
            shown = page_text.one_line(address, 120)
            raise Refused(f"media at {shown!r} are not loaded: that host is not granted (page_hosts).")
        raise Refused("media by address are not shown in widgets; use IPython.display.Image(url=...).")
    if not isinstance(kind, str) or not _FORMAT.fullmatch(kind):
        raise Refused("this widget is not shown: its media have no known format.")
