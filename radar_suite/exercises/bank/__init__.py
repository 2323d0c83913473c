"""The exercises by name. One module per notebook, and one for all: tasks, hints, references and typical mistakes."""

from radar_suite.exercises.bank import (
    notebook_00,
    notebook_03,
    notebook_04,
    notebook_05,
    notebook_06,
    notebook_07,
    notebook_08,
    notebook_09,
    notebook_10,
    predictions,
)

NOTEBOOKS = (
    notebook_00,
    notebook_03,
    notebook_04,
    notebook_05,
    notebook_06,
    notebook_07,
    notebook_08,
    notebook_09,
    notebook_10,
    predictions,
)
BANK = {one.name: one for notebook in NOTEBOOKS for one in notebook.EXERCISES}
