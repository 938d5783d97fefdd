"""No property is judged by the time that its examples take: the machine may be busy."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "untimed",
    settings(),  # as CI has it, if this runs there
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("untimed")
