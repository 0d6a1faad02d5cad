# A scratch copy of this tree and of its optimised build, in which patches of tests/mutants are compiled. Sourced by scripts that
# set 'top', the tree; 'build', its optimised build; and 'scratch', an empty folder that they remove.
#
# A patch plants one bug. Each hunk replaces whole lines and has no context, so that it applies wherever these lines are in their file.

# Copy the tree and its build. Programs are left out: they are linked again. Other scripts that build there wait.
scratch_copy() (
        exec 7<"$build/config.status" && flock 7 || exit 1
        mkdir -p "$scratch/tree/build" || exit 1
        (cd "$top" && git -c safe.directory="*" ls-files -z --cached --others --exclude-standard | tar -c --null -T - 2>/dev/null) | tar -x -C "$scratch/tree"
        cp -a "$top"/{configure,aclocal.m4,config.h.in,Makefile.in,build-aux} "$scratch/tree/" || exit 1
        (cd "$build" && find . -name source -prune -o -type d -name logs -prune -o \( -type f -o -type l \) \( ! -perm -100 -o -path ./config.status \) -print0 |
                tar -c --null -T -) | tar -x -C "$scratch/tree/build" || exit 1
        grep -rlF "$top" "$scratch/tree/build" --include='*.Po' --include=Makefile --include=config.status | xargs sed -i "s#$build#$scratch/tree/build#g; s#$top#$scratch/tree#g"
)

# Apply patches, by their names without ".patch".
scratch_patch() {
        local name
        for name in "$@"; do
                patch -s -F0 -d "$scratch/tree" -p1 <"$top/tests/mutants/$name.patch" || { echo "error: $name.patch does not apply"; return 1; }
        done
}

# Take all patches out again.
scratch_restore() {
        local file
        for file in $(sed -n 's#^+++ b/##p' "$top"/tests/mutants/*.patch | sort -u); do
                cmp -s "$top/$file" "$scratch/tree/$file" || cp "$top/$file" "$scratch/tree/$file" || return 1
        done
}

# scratch_make CPPFLAGS TARGET...: only what a patch changes is compiled again, in the shortest time. 'optimise': how, instead of by -O1.
scratch_make() {
        local flags=$1
        shift
        make -s -C "$scratch/tree/build" -j"$(nproc)" CPPFLAGS="-include $scratch/tree/tests/mutants/mutant.h $flags" WARN_CFLAGS=-w CFLAGS="-g0 ${optimise:--O1}" "$@"
}
