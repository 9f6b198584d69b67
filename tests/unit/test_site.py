"""Site: both forms of name, and what is no site."""

import pytest
import torch

from interv import HOOKS, VLM, Add, Site
from tests.property.cases import Case
from tests.property.reference import bitwise


@pytest.mark.parametrize("hook", HOOKS)
def test_transformer_lens_names_are_read_and_written(hook: str) -> None:
    site = Site.parse(f"blocks.14.{hook}")
    assert site == Site(14, hook)
    assert str(site) == f"blocks.14.{hook}"
    assert Site.parse(f"vision_encoder.blocks.2.{hook}") == Site(2, hook, tower="vision")


@pytest.mark.parametrize(
    ("later", "hook"),
    [
        ("hook_in", "hook_resid_pre"),
        ("hook_out", "hook_resid_post"),
        ("attn.hook_out", "hook_attn_out"),
        ("mlp.hook_out", "hook_mlp_out"),
        ("hook_z", "attn.hook_z"),
        ("attn.o.hook_in", "attn.hook_z"),
        ("attn.q.hook_out", "attn.hook_q"),
        ("hook_pattern", "attn.hook_pattern"),
        ("ln2.hook_in", "hook_resid_mid"),
        ("mlp.hook_in", "ln2.hook_out"),
        ("mlp.gate.hook_out", "mlp.hook_pre"),
        ("mlp.in.hook_out", "mlp.hook_pre_linear"),
        ("mlp.out.hook_in", "mlp.hook_post"),
    ],
)
def test_later_spellings_are_the_same_places(later: str, hook: str) -> None:
    assert Site.parse(f"blocks.3.{later}") == Site(3, hook)


@pytest.mark.parametrize(
    ("name", "site"),
    [
        ("hook_embed", Site(hook="hook_embed")),
        ("embed.hook_out", Site(hook="hook_embed")),
        ("unembed", Site(hook="unembed.hook_out")),
        ("hook_unembed", Site(hook="unembed.hook_out")),
        ("ln_final.hook_normalized", Site(hook="ln_final.hook_normalized")),
        ("ln_final.hook_in", Site(-1)),
        ("blocks.-1.hook_resid_post", Site(-1)),
        ("blocks.3.attn.hook_z[2]", Site(3, "hook_z", head=2)),
        ("vision_encoder.blocks.1.hook_out", Site(1, tower="vision")),
        ("vision_encoder.encoder_layers.1.attn.hook_k", Site(1, "hook_k", tower="vision")),
    ],
)
def test_names_outside_the_decoder_blocks_and_of_heads(name: str, site: Site) -> None:
    assert Site.parse(name) == site
    assert Site.parse(str(site)) == site


def test_a_name_does_where_a_site_is_wanted(vlm: VLM) -> None:
    """And a layer from the end is the layer; what is read comes back by the site as it was asked for."""
    prompts, last = Case().prompts(), vlm.n_layers - 1
    names = ["blocks.-1.hook_z", Site(last, "hook_z"), Site(-vlm.n_layers, "hook_z"), "blocks.0.attn.hook_z"]
    read = vlm.capture(prompts, names)
    assert list(read) == names
    bitwise(read[names[0]], read[names[1]])
    bitwise(read[names[2]], read[names[3]])
    assert not torch.equal(read[names[1]], read[names[3]])
    assert vlm.prefill(prompts, ["blocks.-1.hook_resid_post"]).captured.keys() == {"blocks.-1.hook_resid_post"}
    by_name, by_site = (Add(site, read[names[0]]) for site in (names[0], Site(last, "hook_z")))
    assert by_name.site == Site(-1, "hook_z")
    bitwise(vlm.logits(prompts, [by_name]), vlm.logits(prompts, [by_site]))


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
        (lambda: Site(1, "hook_y"), "hook_resid_pre, hook_resid_mid"),
        (lambda: Site(1, "hook_embed"), "hook_resid_pre, hook_resid_mid"),
        (lambda: Site(1, "hook_q_input"), "nearest to it is hook_resid_pre"),
        (lambda: Site(1, "hook_z", head=-1), "whole number from 0"),
        (lambda: Site(1, "hook_mlp_out", head=1), "has no heads; they are at attn.hook_q"),
        (lambda: Site(tower="vision", hook="hook_embed"), "beside a layer"),
        (lambda: Site(1, side="input"), "module paths"),
        (lambda: Site.parse("blocks.1.hook_y"), "hook_resid_pre, hook_resid_mid"),
        (lambda: Site.parse("blocks.one.hook_resid_post"), r"blocks\.<layer>"),
        (lambda: Site.parse("encoder_layers.1.hook_z"), r"blocks\.<layer>"),
    ],
)
def test_what_is_no_site_is_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_every_listed_site_exists(vlm: VLM) -> None:
    sites = vlm.sites()
    assert sites[:5] == [Site(0, hook) for hook in HOOKS[:5]]
    assert len(sites) == len(set(sites))
    for site in sites:
        vlm.model.get_submodule(vlm.layout.locate(site)[0])
