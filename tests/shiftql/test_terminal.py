"""Progress is shown on standard error, as a bar only on a terminal."""

import sys

from shiftql.progress import progress
from shiftql.terminal import BarProgress, NotedProgress, shown_progress


def _report():
    surface = progress.get()
    surface.note("the server was started")
    surface.begin(2)
    surface.advance("linear resnet")
    surface.note("half [way]")
    surface.advance("linear vit")
    surface.end()


def test_without_a_terminal_only_notes_are_shown(capsys):
    with shown_progress():
        _report()
    shown = capsys.readouterr()
    assert shown.err == "the server was started\nhalf [way]\n"
    assert shown.out == ""


def test_on_a_terminal_a_bar_counts_what_is_done(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with shown_progress():
        _report()
    shown = capsys.readouterr()
    assert "2/2" in shown.err
    assert "half [way]\n" in shown.err
    assert shown.out == ""


def test_the_surface_is_the_bar_on_a_terminal_and_gone_afterwards(monkeypatch):
    before = progress.get()
    with shown_progress():
        assert isinstance(progress.get(), NotedProgress)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with shown_progress():
        assert isinstance(progress.get(), BarProgress)
    assert progress.get() is before


def test_a_bar_that_was_left_open_is_closed(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with shown_progress():
        surface = progress.get()
        surface.begin(2)
    surface.advance("late")
    capsys.readouterr()
    surface.note("a plain line")
    assert capsys.readouterr().err == "a plain line\n"


def test_on_a_terminal_the_ranking_so_far_stands_above_the_bar_until_the_end(capsys, monkeypatch, ranking):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with shown_progress():
        surface = progress.get()
        surface.show(ranking)
        surface.begin(2)
        surface.show(ranking)
        surface.advance("linear resnet")
        surface.begin(1)
        surface.end()
    shown = capsys.readouterr()
    assert shown.err.index("resnet-letters") < shown.err.index("1/2")
    assert shown.out == ""
