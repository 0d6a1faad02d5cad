# Turn the sections of the manual pages of client/local.mk that have a topic into rows of a C table: name, title, text. A line of text begins with a digit, its
# indentation, and a mark: "p" a paragraph to be wrapped, "h" one whose further lines are indented by two columns, "n" by three, "|" a line to be printed as it is.
# An empty line separates paragraphs.

function plain(s,    out, i, c, before, after) {
        out = ""
        for (i = 1; i <= length(s); i++) {
                c = substr(s, i, 1)
                before = substr(s, i - 1, 1)
                after = substr(s, i + 1, 1)
                if (c == "\\") {
                        i++
                        out = out after
                } else if (c != "*" && !(c == "_" && !(before ~ /[A-Za-z0-9]/ && after ~ /[A-Za-z0-9]/)))
                        out = out c
        }
        return out
}

# Loops, as awks differ in the backslashes of gsub().
function unescaped(s,    out, i) {
        out = ""
        for (i = 1; i <= length(s); i++) {
                if (substr(s, i, 1) == "\\")
                        i++
                out = out substr(s, i, 1)
        }
        return out
}

function quoted(s,    out, i, c) {
        out = ""
        for (i = 1; i <= length(s); i++) {
                c = substr(s, i, 1)
                out = out (c == "\\" || c == "\"" ? "\\" : "") c
        }
        return "\"" out "\\n\""
}

function emit(line) { print "          " quoted(line) }

function end_paragraph() {
        if (paragraph != "")
                emit(indent mark plain(paragraph))
        paragraph = ""
}

function begin(new_indent, new_mark, text) {
        end_paragraph()
        indent = new_indent
        mark = new_mark
        paragraph = text
}

function separate() {
        end_paragraph()
        pending = 1
}

function end_topic() {
        end_paragraph()
        if (inside)
                print "        },"
        inside = literal = pending = number = 0
}

/^# / {
        if (literal) {
                emit("1|" unescaped($0))
                next
        }
        end_topic()
        if (match($0, /\([a-z]+\)$/)) {
                name = substr($0, RSTART + 1, RLENGTH - 2)
                title = tolower(substr($0, 3, RSTART - 4))
                title = toupper(substr(title, 1, 1)) substr(title, 2)
                sub(/dns$/, "DNS", title)
                inside = 1
                skip = 1
                print "        { \"" name "\", \"" title "\","
        }
        next
}
!inside { next }
/^```$/ {
        end_paragraph()
        if (!literal)
                emit("")
        literal = !literal
        pending = !literal
        next
}
literal {
        emit($0 == "" ? "" : "1|" unescaped($0))
        next
}
/^$/ { separate(); next }
{
        if (pending && !skip && !/^[|:]/)
                emit("")
        pending = skip = 0
}
/^\[\[ / { end_paragraph(); next }
/^:\[ / { next }
/^\|[ <]? / { begin(0, "h", ""); paragraph = substr($0, 4); next }
/^:[ <]? / { begin(1, "p", substr($0, 4)); next }
/^- / { begin(0, "h", "- " substr($0, 3)); next }
/^\. / { begin(0, "n", ++number ". " substr($0, 3)); next }
{
        sub(/^[ \t]+/, "")
        if (paragraph == "")
                begin(0, "p", $0)
        else
                paragraph = paragraph " " $0
}
END { end_topic() }
