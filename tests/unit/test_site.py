"""Site: both forms of name, and what is no site."""

import pytest

from interv import HOOKS, VLM, Site


@pytest.mark.parametrize("hook", HOOKS)
def test_transformer_lens_names_are_read_and_written(hook: str) -> None:
    site = Site.parse(f"blocks.14.{hook}")
    assert site == Site(14, hook)
    assert str(site) == f"blocks.14.{hook}"


@pytest.mark.parametrize(
    ("later", "hook"),
    [
        ("hook_in", "hook_resid_pre"),
        ("hook_out", "hook_resid_post"),
        ("attn.hook_out", "hook_attn_out"),
        ("mlp.hook_out", "hook_mlp_out"),
    ],
)
def test_later_spellings_are_the_same_places(later: str, hook: str) -> None:
    assert Site.parse(f"blocks.3.{later}") == Site(3, hook)


def test_module_paths_have_two_sides() -> None:
    path = "model.language_model.layers.14.mlp"
    assert Site.parse(path) == Site(path=path)
    assert str(Site.parse(path, side="input")) == f"{path} (input)"


def test_a_layer_is_the_stream_that_leaves_it() -> None:
    assert Site(14) == Site.parse("blocks.14.hook_resid_post")


def test_sites_are_keys() -> None:
    assert {Site(1): "one"}[Site.parse("blocks.1.hook_resid_post")] == "one"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Site(), "either a layer"),
        (lambda: Site(1, path="lm_head"), "either a layer"),
        (lambda: Site(-1), "count from 0"),
        (lambda: Site(1, "hook_z"), "hook_resid_pre, hook_resid_mid"),
        (lambda: Site(1, side="input"), "module paths"),
        (lambda: Site.parse("blocks.1.hook_z"), "hook_resid_pre, hook_resid_mid"),
        (lambda: Site.parse("blocks.one.hook_resid_post"), r"blocks\.<layer>"),
        (lambda: Site.parse("blocks.-1.hook_resid_post"), r"blocks\.<layer>"),
        (lambda: Site.parse("hook_embed"), r"blocks\.<layer>"),
    ],
)
def test_what_is_no_site_is_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_every_listed_site_exists(vlm: VLM) -> None:
    sites = vlm.sites()
    assert sites[:5] == [Site(0, hook) for hook in HOOKS]
    assert len(sites) == len(set(sites))
    for site in sites:
        vlm.model.get_submodule(vlm.layout.locate(site)[0])
