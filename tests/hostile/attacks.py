"""The one table of attacks: (group, name, function of the stage)."""
import control
import identity
import relay
import services
import witness

ATTACKS = control.ATTACKS + services.ATTACKS + relay.ATTACKS + identity.ATTACKS + \
    witness.ATTACKS
GROUPS = ("control", "services", "relay", "identity", "witness_etcd", "witness_receipts")
assert len({f"{group}: {name}" for group, name, _ in ATTACKS}) == len(ATTACKS) >= 200
assert {group for group, _, _ in ATTACKS} == set(GROUPS)
