"""The one table of attacks: (group, name, function of the stage)."""
import control
import identity
import relay
import services

ATTACKS = control.ATTACKS + services.ATTACKS + relay.ATTACKS + identity.ATTACKS
GROUPS = ("control", "services", "relay", "identity")
assert len({f"{group}: {name}" for group, name, _ in ATTACKS}) == len(ATTACKS) >= 200
assert {group for group, _, _ in ATTACKS} == set(GROUPS)
