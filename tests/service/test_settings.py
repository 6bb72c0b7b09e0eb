"""Settings out of variables: what is no setting is told by its name alone."""

from service.settings import Settings, unknown_variables


def test_a_variable_that_is_no_setting_is_told_with_the_nearest_one() -> None:
    """Where one is near; other programs may share the prefix."""
    given = ["SETPOINT_APROVAL", "setpoint_prot", "SETPOINT_SERVICE_HOST", "PATH", "MY_SETPOINT_PORT"]
    assert unknown_variables(given) == [
        "SETPOINT_APROVAL (is SETPOINT_APPROVAL meant?)",
        "SETPOINT_SERVICE_HOST",
        "setpoint_prot (is SETPOINT_PORT meant?)",
    ]


def test_settings_and_what_other_commands_read_are_not_told() -> None:
    """In any case of letters, as they are read."""
    assert unknown_variables(f"SETPOINT_{name.upper()}" for name in Settings.model_fields) == []
    assert unknown_variables(["setpoint_port", "SETPOINT_SERVER", "SETPOINT_PORT_TWO"]) == []
