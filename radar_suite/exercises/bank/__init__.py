"""The exercises by name. One module per notebook: tasks, hints, references and typical mistakes, in its order."""

from radar_suite.exercises.bank import (
    notebook_00,
    notebook_03,
    notebook_04,
    notebook_05,
    notebook_06,
    notebook_07,
    notebook_08,
)

NOTEBOOKS = (notebook_00, notebook_03, notebook_04, notebook_05, notebook_06, notebook_07, notebook_08)
BANK = {one.name: one for notebook in NOTEBOOKS for one in notebook.EXERCISES}
