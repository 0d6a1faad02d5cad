# Builds outside the source folder: sourced by ./quickstart and ./check. 'top' is the source folder.

# build_tree DIR LOG [configure options...]: configures DIR once, and again when the options or the build rules changed,
# then builds everything in it, or BUILD_TARGET.
build_tree() {
        local dir=$1 log=$2 cc=gcc source=$top wanted
        shift 2

        command -v ccache >/dev/null && cc="ccache gcc"
        mkdir -p "$dir"
        {
                [ -e "$top/configure" ] && [ ! "$top/configure.ac" -nt "$top/configure" ] || "$top/autogen.sh" || return 1
                # A tree with an in-place build cannot be built elsewhere: use a clean copy of its files.
                if [ -e "$top/config.status" ]; then
                        source=$dir/source
                        mkdir -p "$source"
                        (cd "$top" && git -c safe.directory="*" ls-files -z --cached --others --exclude-standard |
                                xargs -0 sh -c 'for f in "$@"; do [ ! -e "$f" ] || printf "%s\0" "$f"; done' - |
                                tar -c --null -T -) | tar -x -C "$source" || return 1
                        (cd "$source" && ./autogen.sh) || return 1
                fi
                wanted="$source $*"
                if [ "$wanted" != "$(cat "$dir/configured" 2>/dev/null)" ] || [ ! -e "$dir/Makefile" ]; then
                        (cd "$dir" && "$source/configure" --prefix=/usr --sysconfdir=/etc --localstatedir=/var "$@" CC="$cc") || return 1
                        echo "$wanted" >"$dir/configured"
                fi
                make -C "$dir" -j"$(nproc)" "${BUILD_TARGET:-all}"
        } >"$log" 2>&1 </dev/null || { grep -E 'error|Error|\*\*\*' "$log" | head -20 >&2 || tail -20 "$log" >&2; echo "the build failed; all of its words: $log" >&2; return 1; }
}
