"""Apache TVM: graphs imported into Relax, lowered by our own rules, scheduled by our own schedules."""

from lwc.backends.tvm.environment import prepare

prepare()
