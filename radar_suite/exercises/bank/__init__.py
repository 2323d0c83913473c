"""The exercises by name: one module per theme, each with its tasks, references and typical mistakes."""

from radar_suite.exercises.bank import experts, lambdas, masking, primer, routers, tables, teachers

THEMES = (primer, experts, teachers, routers, tables, lambdas, masking)
BANK = {one.name: one for theme in THEMES for one in theme.EXERCISES}
