"""Open comparisons of a study."""

from analysis.decisions import questions, questions_of


def test_assignments_comparisons_name_their_cells(small_results):
    found = questions(small_results, 0.5)
    texts = [question.text for question in found]
    assert texts == [
        "fixed or full, 20 labels",
        "fixed or full, 40 labels",
        "full or scratch, 20 labels",
        "full or scratch, 40 labels",
    ]
    rows = small_results.of("fewshot")
    for question in found:
        words = question.text.replace(",", "").split()
        cells = rows[rows["cell"].isin(question.cells)]
        assert set(cells["freeze"]) == {words[0], words[2]}
        assert set(cells["labels"]) == {int(words[3])}
        assert set(cells["latent_dim"]) == {2, 8}
        assert question.replicates == 2
        assert not question.decided  # two replicates decide nothing
    assert questions_of(small_results.store.address, 0.5) == found


def test_two_replicates_decide_nothing(small_results):
    assert not [q for q in questions(small_results, 1e9) if q.decided]  # n = 2 has no bounds
