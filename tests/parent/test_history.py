"""The history checker itself: it passes what one store could have answered and nothing else."""
import unittest

from history import DONE, REFUSED, UNSURE, History


def history(*events):
    """Events as (kind, generation, bytes, begun, ended[, outcome])."""
    made = History()
    for i, (kind, generation, content, begun, ended, *outcome) in enumerate(events):
        made.note(kind, f"c{i}", "n", generation, content, begun, ended,
                  outcome[0] if outcome else DONE)
    return made


W1, W2 = ("write", 1, "a", 0, 1), ("write", 2, "b", 2, 3)


class Checker(unittest.TestCase):
    def test_what_one_store_could_have_answered_passes(self):
        for events, final in (
                ((), (0, "")),
                ((W1, W2, ("read", 2, "b", 4, 5)), (2, "b")),
                ((W1, ("read", 0, "", 0, 0.5), ("read", 1, "a", 2, 5), W2), (2, "b")),
                ((W1, ("write", 2, "b", 2, 9, UNSURE)), (1, "a")),
                ((W1, ("write", 2, "b", 2, 9, UNSURE)), (2, "b")),
                ((W1, ("write", 2, "b", 2, 9, UNSURE), ("read", 2, "b", 3, 4)), (2, "b")),
                ((W1, W2, ("write", 2, "c", 2, 3, REFUSED)), (2, "b"))):
            with self.subTest(events=events):
                self.assertEqual(history(*events).violations({"n": final}), [])

    def test_each_thing_that_must_not_be_is_found(self):
        for events, final, words in (
                ((W1, W2), (1, "a"), "is there in the end"),
                ((W1, W2), (0, ""), "is there in the end"),
                ((W1, W2), (2, "x"), "bytes that nobody wrote"),
                ((W1, W2, ("write", 2, "b", 2, 3)), (2, "b"), "acknowledged twice"),
                ((W1, W2, ("write", 2, "c", 2, 3)), (2, "b"), "two contents"),
                ((W1, W2, ("read", 2, "c", 4, 5)), (2, "b"), "two contents"),
                ((W1, W2, ("read", 1, "a", 4, 5)), (2, "b"), "after generation 2 was there"),
                ((W1, W2, ("read", 0, "", 4, 5)), (2, "b"), "after generation 2 was there"),
                ((W1, ("write", 2, "b", 2, 9, UNSURE), ("read", 2, "b", 3, 4),
                  ("read", 1, "a", 5, 6)), (2, "b"), "after generation 2 was there"),
                ((W1, ("write", 2, "c", 2, 3, REFUSED), ("read", 2, "c", 4, 5)), (2, "c"),
                 "whose write was refused"),
                ((W1, ("read", 2, "z", 4, 5)), (2, "z"), "nobody wrote")):
            with self.subTest(events=events, final=final):
                found = history(*events).violations({"n": final})
                self.assertTrue(any(words in violation for violation in found), found)


if __name__ == "__main__":
    unittest.main()
