"""The exercises by name: one module per theme, each with its tasks, references and typical mistakes."""

from radar_lib.report.exercise_bank import experts, lambdas, primer, routers, tables, teachers

BANK = {one.name: one for theme in (primer, experts, teachers, routers, tables, lambdas) for one in theme.EXERCISES}
