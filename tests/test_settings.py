"""What pip and uv were told is carried over, in the stated order, and no login gets into anything that is shown."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from provision.carry import login_variables, patience, proxies, uv_environment
from provision.errors import BadData
from provision.host import LocalHost
from provision.settings import (
    Login,
    Settings,
    ask_settings,
    merge,
    parse_pip_conf,
    parse_uv_toml,
    redact,
    settings_lines,
)


class Desk(LocalHost):
    """Another person's variables and files; those of the whole machine only where `shared`."""

    def __init__(self, environ: Mapping[str, str], *, shared: bool = False) -> None:
        self.environ = environ
        self.shared = shared

    def read_text(self, path: str) -> str:
        if path.startswith(("/etc/", "/Library/")) and not self.shared:
            raise FileNotFoundError(path)
        return super().read_text(path)

    def getenv(self, name: str) -> str | None:
        return self.environ.get(name)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def asked(
    home: Path, *, prefix: Path | None = None, base: str | None = None, shared: bool = False, **environ: str
) -> Settings:
    """The settings of somebody with this home, no others of this machine's."""
    own = {"HOME": str(home), "XDG_CONFIG_DIRS": str(home / "xdg"), "APPDATA": str(home), **environ}
    return ask_settings(Desk(own, shared=shared), prefix=prefix, base=base)


def pip_conf(place: Path, text: str) -> Path:
    name = "pip.ini" if os.name == "nt" else "pip.conf"
    path = place / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def uv_toml(home: Path, text: str) -> Path:
    path = (home if os.name == "nt" else home / ".config") / "uv" / "uv.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def user_conf(home: Path) -> Path:
    return home / "pip" if os.name == "nt" else home / ".config" / "pip"


class TestPrecedence:
    """UV_* variables, uv.toml, PIP_* variables, pip's files: each setting by itself."""

    def test_the_strongest_word_wins_and_is_named(self, home: Path) -> None:
        conf = pip_conf(user_conf(home), "[global]\nindex-url = https://d/simple\ntimeout = 40\n")
        assert asked(home).index_url == "https://d/simple"
        assert asked(home).origin("index_url") == str(conf)
        assert asked(home, PIP_INDEX_URL="https://c/simple").index_url == "https://c/simple"
        toml = uv_toml(home, 'index-url = "https://b/simple"\n')
        found = asked(home, PIP_INDEX_URL="https://c/simple")
        assert (found.index_url, found.origin("index_url")) == ("https://b/simple", str(toml))
        found = asked(home, PIP_INDEX_URL="https://c/simple", UV_DEFAULT_INDEX="https://a/simple")
        assert (found.index_url, found.origin("index_url")) == ("https://a/simple", "UV_DEFAULT_INDEX")
        assert (found.timeout, found.origin("timeout")) == (40, str(conf))

    def test_pip_reads_a_section_for_install_over_a_file_that_is_nearer(self, home: Path, tmp_path: Path) -> None:
        prefix = tmp_path / "env"
        pip_conf(prefix, "[global]\nindex-url = https://env/simple\n")
        pip_conf(user_conf(home), "[install]\nindex-url = https://install/simple\n[global]\nproxy = http://p:1\n")
        assert asked(home, prefix=prefix).index_url == "https://install/simple"
        assert asked(home, prefix=prefix).proxy == "http://p:1"

    def test_the_environments_own_file_stands_over_the_persons(self, home: Path, tmp_path: Path) -> None:
        pip_conf(user_conf(home), "[global]\nindex-url = https://user/simple\n")
        pip_conf(tmp_path / "env", "[global]\nindex-url = https://env/simple\n")
        assert asked(home, prefix=tmp_path / "env").index_url == "https://env/simple"

    def test_a_named_file_stands_for_the_persons_own(self, home: Path, tmp_path: Path) -> None:
        pip_conf(user_conf(home), "[global]\nproxy = http://user:1\nindex-url = https://user/simple\n")
        named = tmp_path / "named.conf"
        named.write_text("[global]\nindex-url = https://named/simple\n")
        found = asked(home, PIP_CONFIG_FILE=str(named))
        assert (found.index_url, found.proxy) == ("https://named/simple", None)
        assert asked(home, PIP_CONFIG_FILE=os.devnull).index_url is None

    @pytest.mark.skipif(os.name == "nt", reason="pip's folders differ there")
    def test_pip_itself_reads_the_same_out_of_the_same_files(self, home: Path, tmp_path: Path) -> None:
        prefix = tmp_path / "env"
        pip_conf(home / "xdg" / "pip", "[global]\nindex-url = https://xdg/simple\nretries = 1\ntimeout = 5\n")
        pip_conf(home / ".pip", "[global]\ntimeout = 6\nproxy = http://legacy:1\ncert = /c/legacy.pem\n")
        pip_conf(user_conf(home), "[global]\nproxy = http://user:1\nextra-index-url =\n  https://e/1\n  https://e/2\n")
        environ = {"PATH": os.defpath, "HOME": str(home), "XDG_CONFIG_DIRS": str(home / "xdg"), "PIP_RETRIES": "7"}
        found = asked(home, prefix=prefix, shared=True, PIP_RETRIES="7")

        oracle = (
            "import json; from pip._internal.configuration import Configuration; c = Configuration(isolated=False); "
            "c.load(); print(json.dumps({k: v for _, one in c.items() for k, v in one.items()}))"
        )
        said = subprocess.run(
            [sys.executable, "-c", oracle], env=environ, capture_output=True, text=True, check=True, cwd=tmp_path
        )
        values = json.loads(said.stdout)

        def pips(key: str) -> str:
            return str(values[f"global.{key}"])

        assert (found.timeout, found.proxy) == (float(pips("timeout")), pips("proxy")) == (6.0, "http://user:1")
        assert (found.index_url, found.cert) == (pips("index-url"), pips("cert"))
        assert list(found.extra_index_urls) == pips("extra-index-url").split()
        assert found.retries == 7

    def test_a_configuration_in_the_current_directory_is_never_read(
        self, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for name in ("uv.toml", "pip.conf", "pip.ini"):
            (tmp_path / name).write_text('index-url = "https://evil/simple"\n[global]\nindex-url = https://evil\n')
        (tmp_path / "pyproject.toml").write_text('[tool.uv]\nindex-url = "https://evil/simple"\n')
        assert asked(home) == Settings()

    def test_uv_config_file_stands_for_all_of_uvs_files_and_uv_no_config_for_none(
        self, home: Path, tmp_path: Path
    ) -> None:
        uv_toml(home, 'index-url = "https://user/simple"\n')
        (tmp_path / "other.toml").write_text('keyring-provider = "subprocess"\n')
        found = asked(home, UV_CONFIG_FILE=str(tmp_path / "other.toml"))
        assert (found.index_url, found.keyring) == (None, "subprocess")
        assert asked(home, UV_NO_CONFIG="1").index_url is None


class TestReading:
    def test_every_key_that_pip_and_we_know(self) -> None:
        text = """
            [global]
            index_url = https://a/simple
            extra-index-url = https://b/simple
                https://c/simple
            find-links = https://d/wheels
            no-index = yes
            cert = /etc/corp.pem
            client-cert = /etc/me.pem
            proxy = proxy.corp:3128
            trusted-host = a b:8443
            keyring-provider = subprocess
            default-timeout = 3.5
            retries = 9
            uploaded-prior-to = P7D
            unknown = 1
            """
        found = merge([("pip.conf", parse_pip_conf(re.sub(r"(?m)^ {12}", "", text), "pip.conf")["global"])])
        assert found == Settings(
            index_url="https://a/simple",
            extra_index_urls=("https://b/simple", "https://c/simple"),
            find_links=("https://d/wheels",),
            no_index=True,
            cert=os.path.abspath("/etc/corp.pem"),
            client_cert=os.path.abspath("/etc/me.pem"),
            proxy="http://proxy.corp:3128",
            trusted_hosts=("a", "b:8443"),
            keyring="subprocess",
            timeout=3.5,
            retries=9,
            exclude_newer="P7D",
            best_match=True,
            origins=found.origins,
        )

    def test_uv_toml_with_named_indexes_an_explicit_one_and_its_pip_table(self, tmp_path: Path) -> None:
        found = parse_uv_toml(
            """
            index = [
              { name = "corp", url = "https://corp/simple", default = true },
              { name = "more", url = "https://more/simple" },
              { name = "torch", url = "https://t/whl", explicit = true },
            ]
            allow-insecure-host = ["corp"]
            https-proxy = "http://p:8080"
            [pip]
            find-links = ["wheels", "https://f/w"]
            no-index = true
            """,
            str(tmp_path / "uv.toml"),
        )
        assert found == {
            "index_url": "corp=https://corp/simple",
            "extra_index_urls": ("more=https://more/simple",),
            "find_links": (str(tmp_path / "wheels"), "https://f/w"),
            "trusted_hosts": ("corp",),
            "proxy": "http://p:8080",
            "no_index": True,
        }

    def test_folders_are_meant_from_where_they_are_written(
        self, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HOME", str(home))
        assert asked(home, PIP_FIND_LINKS="wheels").find_links == (str(tmp_path / "wheels"),)
        if os.name != "nt":
            assert asked(home, PIP_CERT="~/c.pem").cert == str(home / "c.pem")

    def test_uvs_find_links_are_separated_by_commas(self, home: Path) -> None:
        assert asked(home, UV_FIND_LINKS="https://a/w,https://b/w").find_links == ("https://a/w", "https://b/w")

    def test_the_weakest_word_about_certificates_is_the_http_librarys(self, home: Path) -> None:
        assert asked(home, REQUESTS_CA_BUNDLE="/r.pem").cert == os.path.abspath("/r.pem")
        assert asked(home, REQUESTS_CA_BUNDLE="/r.pem", PIP_CERT="/p.pem").cert == os.path.abspath("/p.pem")
        assert asked(home, PIP_CERT="/p.pem", SSL_CERT_FILE="/s.pem").cert == os.path.abspath("/s.pem")

    @pytest.mark.parametrize("text", ["[global\nindex-url=x", "index-url = x\n", "[global]\n=\n"])
    def test_a_broken_pip_conf_is_named(self, text: str) -> None:
        with pytest.raises(BadData, match=r"broken\.conf"):
            parse_pip_conf(text, "broken.conf")

    @pytest.mark.parametrize("text", ["index-url = ", 'index = "x"', "pip = 3", "[[index]]\nname = 'a'"])
    def test_a_broken_uv_toml_is_named(self, text: str) -> None:
        with pytest.raises(BadData, match=r"broken\.toml"):
            parse_uv_toml(text, "broken.toml")

    def test_a_broken_file_does_not_tell_the_password_that_is_in_it(self) -> None:
        with pytest.raises(BadData) as caught:
            parse_pip_conf("https://ci:s3cret@corp/simple", "pip.conf")
        assert "s3cret" not in caught.value.text

    def test_a_file_with_a_byte_order_mark_is_read(self) -> None:
        assert parse_pip_conf("\ufeff[global]\nproxy = p\n", "pip.ini")["global"] == {"proxy": "p"}

    def test_numbers_that_are_none_are_passed_over(self, home: Path) -> None:
        assert asked(home, PIP_TIMEOUT="soon", PIP_RETRIES="often") == Settings()


class TestLogins:
    def test_an_address_never_holds_one(self, home: Path) -> None:
        found = asked(
            home,
            PIP_INDEX_URL="https://ci:s3%20cret@corp/simple",
            PIP_EXTRA_INDEX_URL="https://you:p@ss@more/simple",
            PIP_FIND_LINKS="https://token@files/w",
            PIP_PROXY="me:pw@proxy:3128",
            base="https://t:k@mirror/whl",
        )
        assert found.index_url == "https://corp/simple"
        assert found.extra_index_urls == ("https://more/simple",)
        assert found.find_links == ("https://files/w",)
        assert found.proxy == "http://proxy:3128"
        assert {(one.url, one.user, one.password) for one in found.logins} == {
            ("https://corp/simple", "ci", "s3 cret"),
            ("https://more/simple", "you", "p@ss"),
            ("https://files/w", "token", None),
            ("http://proxy:3128", "me", "pw"),
            ("https://mirror/whl", "t", "k"),
        }
        assert not re.search("cret|p@ss|token|pw", repr(found))

    def test_a_named_index_has_it_in_two_variables(self, home: Path) -> None:
        found = asked(
            home,
            UV_INDEX="my-corp=https://corp/simple other=https://other/simple",
            UV_INDEX_MY_CORP_USERNAME="ci",
            UV_INDEX_MY_CORP_PASSWORD="s3cret",
        )
        assert found.extra_index_urls == ("https://corp/simple", "https://other/simple")
        assert [(one.url, one.password) for one in found.logins] == [("https://corp/simple", "s3cret")]

    def test_the_nearest_address_gives_it_and_another_host_or_scheme_none(self) -> None:
        found = Settings(
            logins=(
                Login(url="https://corp/a/simple", user="a", password="1"),
                Login(url="https://corp/b/simple", user="b", password="2"),
            )
        )
        assert [getattr(found.login(url), "user", None) for url in ("https://corp/a/f.whl", "https://CORP/b/x")] == [
            "a",
            "b",
        ]
        for url in ("https://corp.evil/a", "http://corp/a/simple", "https://corp:8443/a"):
            assert found.login(url) is None

    def test_it_is_put_back_for_uv_alone(self) -> None:
        found = Settings(
            index_url="https://corp/simple", logins=(Login(url="https://corp/simple", user="c@i", password="s/3"),)
        )
        assert uv_environment(found, {})["UV_DEFAULT_INDEX"] == "https://c%40i:s%2F3@corp/simple"

    def test_the_chosen_index_has_its_own_variables(self) -> None:
        found = Settings(logins=(Login(url="https://m/whl", user="t", password="k"),))
        assert login_variables(found, "https://m/whl/cu130") == {
            "UV_INDEX_CHOSEN_USERNAME": "t",
            "UV_INDEX_CHOSEN_PASSWORD": "k",
        }
        installing = login_variables(found, "https://m/whl/cu130", installing={"UV_INDEX": "https://more/simple"})
        assert installing["UV_INDEX"] == "chosen=https://m/whl/cu130 https://more/simple"
        assert login_variables(found, "https://else/whl") == {}

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("see https://u:p@h/x and http://t@h", "see https://h/x and http://h"),
            ("https://u:p@ss@h/x", "https://h/x"),
            ('<a href="https://h">mail a@b</a>', '<a href="https://h">mail a@b</a>'),
            ("https://h/a@b", "https://h/a@b"),
            ("https://h?x=a@b", "https://h?x=a@b"),
        ],
    )
    def test_redacting_takes_logins_and_nothing_else(self, text: str, shown: str) -> None:
        assert redact(text) == shown


class TestForUv:
    def test_nothing_that_redirects_the_choice_gets_through(self) -> None:
        evil = {
            "UV_EXTRA_INDEX_URL": "https://evil",
            "UV_INDEX": "https://evil",
            "UV_FIND_LINKS": "https://evil",
            "UV_DEFAULT_INDEX": "https://evil",
            "UV_INDEX_STRATEGY": "unsafe-best-match",
            "UV_NO_VERIFY_HASHES": "1",
            "UV_TORCH_BACKEND": "cpu",
            "UV_CONSTRAINT": "evil.txt",
            "UV_OVERRIDE": "evil.txt",
            "UV_CONFIG_FILE": "evil.toml",
            "UV_LINK_MODE": "symlink",
            "UV_PRERELEASE": "allow",
            "PIP_INDEX_URL": "https://evil",
            "PYTHONPATH": "/evil",
            "PYTHONSTARTUP": "/evil",
            "VIRTUAL_ENV": "/evil",
            "CONDA_PREFIX": "/evil",
            "LD_PRELOAD": "/evil.so",
        }
        got = uv_environment(Settings(), evil | {"PATH": "/bin", "HOME": "/home/me"})
        assert not any("evil" in value for value in got.values())
        assert not {"UV_NO_VERIFY_HASHES", "UV_TORCH_BACKEND", "UV_INDEX_STRATEGY", "UV_LINK_MODE"} & set(got)
        assert (got["PATH"], got["HOME"]) == ("/bin", "/home/me")

    def test_how_uv_works_stays_the_persons_choice(self) -> None:
        kept = {
            "UV_CACHE_DIR": "/c",
            "UV_LINK_MODE": "copy",
            "UV_OFFLINE": "1",
            "UV_PYTHON_INSTALL_MIRROR": "https://m",
        }
        assert kept.items() <= uv_environment(Settings(), kept).items()

    def test_pips_words_become_uvs(self) -> None:
        found = Settings(
            index_url="https://a/simple",
            extra_index_urls=("https://b/simple", "https://c/simple"),
            find_links=("/w", "https://f/w"),
            cert="/c.pem",
            client_cert="/me.pem",
            trusted_hosts=("a", "b"),
            keyring="subprocess",
            timeout=40.0,
            retries=0,
            exclude_newer="2026-01-01",
            best_match=True,
        )
        assert {
            "UV_DEFAULT_INDEX": "https://a/simple",
            "UV_INDEX": "https://b/simple https://c/simple",
            "UV_FIND_LINKS": "/w,https://f/w",
            "SSL_CERT_FILE": "/c.pem",
            "SSL_CLIENT_CERT": "/me.pem",
            "UV_INSECURE_HOST": "a b",
            "UV_KEYRING_PROVIDER": "subprocess",
            "UV_HTTP_TIMEOUT": "40",
            "UV_HTTP_RETRIES": "0",
            "UV_EXCLUDE_NEWER": "2026-01-01",
            "UV_INDEX_STRATEGY": "unsafe-best-match",
        }.items() <= uv_environment(found, {}).items()

    def test_no_index_means_an_index_without_packages(self) -> None:
        got = uv_environment(Settings(no_index=True, index_url="https://a", extra_index_urls=("https://b",)), {})
        assert got["UV_DEFAULT_INDEX"].startswith("file:")
        assert "UV_INDEX" not in got

    def test_the_machines_certificates_are_uvs_too_unless_others_are_named(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("provision.carry.machine_has_roots", lambda: True)
        assert uv_environment(Settings(), {})["UV_SYSTEM_CERTS"] == "true"
        assert uv_environment(Settings(), {"UV_SYSTEM_CERTS": "false"})["UV_SYSTEM_CERTS"] == "false"
        assert "UV_SYSTEM_CERTS" not in uv_environment(Settings(cert="/c.pem"), {})
        monkeypatch.setattr("provision.carry.machine_has_roots", lambda: False)
        assert "UV_SYSTEM_CERTS" not in uv_environment(Settings(), {})

    def test_the_proxy_variables_go_before_pips_own(self) -> None:
        own = Settings(proxy="http://p:1", logins=(Login(url="http://p:1", user="u", password="w"),))
        assert proxies(own, {}) == {"http": "http://u:w@p:1", "https": "http://u:w@p:1"}
        assert proxies(own, {"https_proxy": "http://q:2"}) == {"http": "http://u:w@p:1", "https": "http://q:2"}
        assert proxies(Settings(), {"ALL_PROXY": "http://q:2"}) == {"http": "http://q:2", "https": "http://q:2"}
        assert proxies(own, {"no_proxy": "localhost"})["http"] == "http://u:w@p:1"
        assert proxies(Settings(), {"HTTP_PROXY": "http://evil", "REQUEST_METHOD": "GET"}) == {}
        assert uv_environment(own, {})["https_proxy"] == "http://u:w@p:1"

    @pytest.mark.parametrize(("text", "seconds"), [("5", 5.0), ("", 60.0), ("soon", 60.0), ("-1", 60.0), ("nan", 60.0)])
    def test_how_long_a_source_may_be_silent(self, text: str, seconds: float) -> None:
        assert patience({"PROVISION_NETWORK_SECONDS": text}) == seconds


class TestScreen:
    def test_a_line_per_setting_with_its_origin_and_no_login(self, home: Path) -> None:
        conf = pip_conf(user_conf(home), "[global]\nindex-url = https://ci:s3cret@corp/simple\nno-index = true\n")
        lines = settings_lines(asked(home, UV_INDEX="https://a/s https://b/s"))
        assert lines == [
            "Settings",
            "  extra-index-urls = https://a/s https://b/s   [UV_INDEX]",
            f"  index-url = https://corp/simple   [{conf}]",
            f"  no-index = true   [{conf}]",
            "  login for https://corp = (not shown)",
        ]

    def test_no_settings_are_told_too(self) -> None:
        assert settings_lines(Settings()) == ["Settings  none: neither pip nor uv is configured"]


def test_a_percent_sign_in_pips_file_is_one() -> None:
    assert parse_pip_conf("[global]\nindex-url = https://h/%20a\n", "f")["global"]["index_url"] == "https://h/%20a"
