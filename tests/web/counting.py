"""How many elements of a page an update changes."""

OBSERVE = """{
    window.changes = [];
    window.observer?.disconnect();
    window.observer = new MutationObserver((records) => window.changes.push(...records));
    observer.observe(document, {subtree: true, childList: true, attributes: true, characterData: true});
}"""
# Elements that were changed, added with all below them, or removed.
CHANGED = """{
    window.changes.push(...observer.takeRecords());
    const elements = new Set(), add = (n) => n && elements.add(n.nodeType === 1 ? n : n.parentElement);
    for (const r of window.changes) {
        if (r.type !== "childList" || r.target.nodeType !== 1) add(r.target);
        for (const n of r.addedNodes) if (n.nodeType === 1) { add(n); n.querySelectorAll("*").forEach(add); }
        for (const n of r.removedNodes) if (n.nodeType === 1) add(n);
        if (r.type === "childList" && [...r.addedNodes, ...r.removedNodes].some((n) => n.nodeType === 3)) add(r.target);
    }
    return elements.size;
}"""
