# Packages of the release before, by the rules of today, and builds of former commits: sourced by test-package.sh and test-upgrade-attached.sh.

# The last commit of that release; each release changes it.
BEFORE_COMMIT=0c465ec8546a6ba331850ea4a9ddd89bfa4e6c9c
# The last commit of the feature level before, for upgrades of attached hosts.
ATTACHED_COMMIT=0c465ec8546a6ba331850ea4a9ddd89bfa4e6c9c

before_is_known() { git -c safe.directory='*' -C "$top" cat-file -e "${1:-$BEFORE_COMMIT}^{commit}" 2>/dev/null; } # [COMMIT]

# before_packages FOLDER: compile its packages of programs into FOLDER/*.deb. The program and its service are of that release;
# the rules of the packages, and the files that it did not have, are of today.
before_packages() (
        mkdir -p "$1/source/debian" && cd "$1/source" || exit 1
        git -c safe.directory='*' -C "$top" archive "$BEFORE_COMMIT" | tar -x && cp -r "$top"/dist/debian/. debian || exit 1
        cp -rn "$top/dist" . && cp "$top/dist/local.mk" dist/local.mk || exit 1
        for f in $(sed -n 's/^dist_doc_DATA = //p' dist/local.mk); do
                [ -e "$f" ] || sed -i "/^dist_doc_DATA/s| $f\>||" dist/local.mk
        done
        [ -d dns ] || { # a release without fleet-dns
                sed -i '/^Package: fleet-dns$/,/^$/d' debian/control
                sed -i '/-pfleet-dns/d' debian/rules
                rm debian/fleet-dns.*
        }
        [ -d client/web ] || { # a release without fleet-web
                sed -i '/fleet-web/d' debian/rules
                sed -i '/libexec/d' debian/fleetctl.install
                sed -i '1i systemdsystemunit_DATA =' dist/local.mk
        }
        sed -i '1s/(.*)/(0.1.0~before)/' debian/changelog
        env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL -u DESTDIR -u CC dpkg-buildpackage -us -uc -B
)

# before_build FOLDER COMMIT: compile that commit in FOLDER/build.
before_build() (
        . "$top/tests/lab/build.sh"
        mkdir -p "$1/source" && git -c safe.directory='*' -C "$top" archive "$2" | tar -x -C "$1/source" || exit 1
        top=$1/source
        build_tree "$1/build" "$1/log"
)
