"""The tab that draws digits of a class, to show how a label, its weight and a classifier guide samples."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import gradio as gr

from invsolve.app.asking import step
from invsolve.app.events import wire_run
from invsolve.app.following import Sessions, sentences, shown, state
from invsolve.app.running import Engine, Run, Stopped
from invsolve.app.words import bar, note, rows

if TYPE_CHECKING:
    from invsolve.core.driver import Progress
    from invsolve.core.prior import Prior
    from invsolve.core.result import Result
    from invsolve.guiding import Guide

__all__ = ["GuideTab"]

NAME = "digits"
WEIGHT, FIXED, ADAPTIVE = "The network, which knows labels", "A classifier", "A classifier, even steps"
HOW = {WEIGHT: "", FIXED: "fixed", ADAPTIVE: "adaptive"}
"""Guidance methods, and for a classifier the scaling rule of its gradient."""

COUNTS = (16, 36, 64)
ANY = "any"
EMPTY = '<div class="iv-empty"><p>Digits appear here, out of noise.</p></div>'


@dataclass
class Drawing:
    """A drawing and its current state."""

    guide: Guide
    samples: int
    seed: int
    pictures: str = ""
    drawn_at: float = 0.0
    result: Result | None = None
    recognised: list[int] = field(default_factory=list)


class GuideTab:
    """Layout and event handlers of the tab.

    Args:
        engine: limits how many runs compute at the same time.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._sessions = Sessions()
        self._prior: Prior | None = None

    def build(self) -> None:
        """Create the components in the current layout."""
        with gr.Row(elem_classes="iv-columns"):
            with gr.Column(scale=5, min_width=300):
                self._inputs()
            with gr.Column(scale=7, min_width=300):
                self.progress = gr.HTML(EMPTY, padding=False, elem_id="iv-guide-progress")
                self.sheet = gr.HTML(padding=False, elem_id="iv-sheet")
                self.words = gr.HTML(padding=False, elem_id="iv-guide-words")
                with gr.Accordion("Make it again", open=False, visible=False) as self.again:
                    self.shell = gr.Code(language="shell", label="On the command line", interactive=False)
        self._wire()

    def _inputs(self) -> None:
        gr.HTML(
            '<p class="iv-hint">A small network that draws handwritten digits, to see what steering does: ask for a '
            "digit, and turn up the strength.</p>",
            padding=False,
        )
        step(1, "Which digit?")
        self.label = gr.Radio(
            [ANY, *map(str, range(10))], value="7", label="Digit", show_label=False, elem_id="iv-label"
        )
        step(2, "How is it steered?")
        self.how = gr.Radio(list(HOW), value=WEIGHT, label="By", show_label=False, elem_id="iv-how")
        self.weight = gr.Slider(
            0, 30, 2, step=0.5, label="How strongly", elem_id="iv-weight",
            info="Network: 0 gives any digit, 1 the digits it has learnt, more exaggerates. Classifier: 10 is strong",
        )  # fmt: skip
        step(3, "Draw them")
        self.samples = gr.Radio(list(COUNTS), value=36, label="How many")
        with gr.Accordion("More settings", open=False):
            self.steps = gr.Slider(10, 200, 50, step=10, label="Steps", info="From noise to digits")
            self.eta = gr.Slider(0, 1, 1.0, step=0.1, label="New noise in each step", info="0 none, 1 as in training")
            self.seed = gr.Number(0, label="Random seed", precision=0)
        with gr.Row(elem_classes="iv-action"):
            self.go = gr.Button("Draw", variant="primary", size="lg", elem_id="iv-guide-go")
            self.stop = gr.Button("Stop", variant="stop", size="lg", visible=False, elem_id="iv-guide-stop")

    def _wire(self) -> None:
        inputs = [self.label, self.how, self.weight, self.samples, self.steps, self.eta, self.seed]
        outputs = [self.progress, self.go, self.stop, self.sheet, self.words, self.again, self.shell]
        wire_run(
            self.draw, inputs, outputs, sessions=self._sessions, places=self._engine.places,
            failed="Nothing was drawn.",
        )  # fmt: skip

    def draw(
        self, request: gr.Request, label: str, how: str, weight: float, samples: int, steps: float, eta: float,
        seed: float,
    ) -> Iterator[list[Any]]:  # fmt: skip
        """Draw digits; regularly yield the values of all outputs, with the digits of the current step.

        Raises:
            gradio.Error: with the message of the library's error.
        """
        kept = [gr.skip()] * 3
        drawing = Drawing(_guide(label, how, weight, int(steps), eta), int(samples), int(seed))
        yield [note("Preparing ..."), shown(False), shown(True), gr.skip(), *kept]
        run, seen = None, ""
        for run in self._sessions.follow(request, lambda own: self._drawn(own, drawing)):
            picture = gr.skip() if drawing.pictures == seen else drawing.pictures
            seen = drawing.pictures
            yield [state(run, "Drawing"), gr.skip(), gr.skip(), picture, *kept]
        assert run is not None
        if isinstance(run.error, Stopped):
            yield [note("Stopped."), shown(True), shown(False), gr.skip(), *kept]
            return
        with sentences():
            if run.error is not None:
                raise run.error
        ended = bar(1, "Done")
        yield [
            ended, shown(True), shown(False), drawing.pictures, _said(drawing, label), shown(True),
            _command(drawing, label),
        ]  # fmt: skip

    def _drawn(self, own: Run, drawing: Drawing) -> None:
        from invsolve.core.driver import solve
        from invsolve.guiding import guided
        from invsolve.priors.loading.digits import digits, digits_classifier

        with self._engine.computing(own):
            if self._prior is None:
                self._prior = digits()
            problem, solver = guided(drawing.guide, self._prior)

            def watched(progress: Progress) -> None:
                own.step(progress)
                if time.monotonic() - drawing.drawn_at > 0.2:
                    drawing.drawn_at = time.monotonic()
                    drawing.pictures = _picture(problem.to_image(progress.info.x0))

            drawing.result = solve(problem, solver, samples=drawing.samples, seed=drawing.seed, callbacks=[watched])
            images = drawing.result.samples[0].clamp(0, 1)
            drawing.pictures = _picture(images)
            drawing.recognised = _recognised(digits_classifier(), images)


def _guide(label: str, how: str, weight: float, steps: int, eta: float) -> Guide:
    from invsolve.guiding import Guide

    told: dict[str, Any] = {"steps": steps, "eta": eta}
    if label == ANY:  # with a weight of 0, the label has no effect
        return Guide(NAME, label=0, weight="0", **told)
    if how == WEIGHT:
        return Guide(NAME, label=int(label), weight=f"{weight:g}", **told)
    return Guide(NAME, label=int(label), scale=f"{HOW[how]}:{weight:g}", **told)


def _picture(images: Any) -> str:
    from invsolve.guiding import sheet

    buffer = io.BytesIO()
    sheet(images.clamp(0, 1)).save(buffer, "PNG")
    content = base64.b64encode(buffer.getvalue()).decode()
    return f'<img class="iv-digits" alt="Digits" src="data:image/png;base64,{content}">'


def _recognised(classifier: Any, images: Any) -> list[int]:
    """Return how many of the images the classifier recognises as each digit."""
    import torch

    with torch.no_grad():
        found = classifier.of_images(images, torch.full((len(images),), 0.05)).argmax(1)
    return [int((found == digit).sum()) for digit in range(10)]


def _said(drawing: Drawing, label: str) -> str:
    assert drawing.result is not None
    counts = ", ".join(f"{n} x {digit}" for digit, n in enumerate(drawing.recognised) if n)
    told = [("A classifier reads", counts)]
    if label != ANY:
        told.append(("As asked", f"{drawing.recognised[int(label)]} of {drawing.samples}"))
        if drawing.guide.scale is not None:
            told.append(
                ("Mind", "the same classifier guided the digits and reads them, so its count is too optimistic")
            )
    stats = drawing.result.stats
    told.append(("Cost", f"{stats.seconds:.1f} s, {round(stats.network_forwards)} network calls per digit"))
    lost = sum(sentence != "ok" for sentence in drawing.result.status[0])
    if lost:
        told.append(("Lost", f"{lost} of {drawing.samples} diverged: guide less strongly, or use more steps"))
    return rows(told)


def _command(drawing: Drawing, label: str) -> str:
    guide = drawing.guide
    how = f"--weight {guide.weight}" if guide.scale is None else f"--scale {guide.scale}"
    what = f"--prior {NAME} --class {guide.label} {how} --samples {drawing.samples} --steps {guide.steps}"
    return f"invsolve guide {what} --eta {guide.eta:g} --seed {drawing.seed} -o digits.png"
