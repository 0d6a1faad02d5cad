#include "fleetd/registry/unit_order.h"

/* Return whether the name sorts before the bytes; with 'after', also if it begins with them. */
static bool order_is_before(const ClusterUnit *u, const char *bytes, size_t size, bool after) {
        int order = strncmp(u->name, bytes, size);

        return order < 0 || (after && order == 0);
}

/* Return the first position whose unit does not sort before the bytes. At the end of a block, it is the end
 * of that block, so that the last block grows. */
static UnitPosition order_find(const UnitOrder *o, const char *bytes, size_t size, bool after) {
        size_t low = 0, high = o->n;
        UnitPosition p;

        while (low < high) {
                size_t middle = (low + high) / 2;

                if (order_is_before(o->blocks[middle]->units[0], bytes, size, after))
                        low = middle + 1;
                else
                        high = middle;
        }
        p = (UnitPosition) { .block = low > 0 ? low - 1 : 0 };
        high = o->n > 0 ? o->blocks[p.block]->n : 0;
        while (p.at < high) {
                size_t middle = (p.at + high) / 2;

                if (order_is_before(o->blocks[p.block]->units[middle], bytes, size, after))
                        p.at = middle + 1;
                else
                        high = middle;
        }
        return p;
}

/* Insert a block with the units of the block before it from 'from' on. 0 or -ENOMEM. */
static int order_insert_block(UnitOrder *o, size_t at, size_t from) {
        UnitBlock *block, *before = at > 0 ? o->blocks[at - 1] : NULL;

        TRY(GROW(o->blocks, o->capacity, o->n + 1));
        block = NEW0(UnitBlock, 1);
        if (!block)
                return -ENOMEM;
        if (before) {
                block->n = before->n - from;
                memcpy(block->units, before->units + from, block->n * sizeof(*block->units));
                before->n = from;
        }
        memmove(o->blocks + at + 1, o->blocks + at, (o->n - at) * sizeof(*o->blocks));
        o->blocks[at] = block;
        o->n++;
        return 0;
}

/* Make room in the block of the position. A split of the last block at its end leaves it full: units that
 * come in order fill all blocks. */
static int order_make_room(UnitOrder *o, UnitPosition *p) {
        size_t from = UNIT_BLOCK_MAX / 2;
        int r;

        if (o->n == 0)
                return order_insert_block(o, 0, 0);
        if (o->blocks[p->block]->n < UNIT_BLOCK_MAX)
                return 0;
        if (p->block == o->n - 1 && p->at == UNIT_BLOCK_MAX)
                from = UNIT_BLOCK_MAX;
        r = order_insert_block(o, p->block + 1, from);
        if (r >= 0 && p->at >= from)
                *p = (UnitPosition) { p->block + 1, p->at - from };
        return r;
}

int unit_order_add(UnitOrder *o, ClusterUnit *unit) {
        UnitPosition p = order_find(o, unit->name, sizeof(unit->name), false);
        UnitBlock *block;

        TRY(order_make_room(o, &p));
        block = o->blocks[p.block];
        memmove(block->units + p.at + 1, block->units + p.at, (block->n - p.at) * sizeof(*block->units));
        block->units[p.at] = unit;
        block->n++;
        return 0;
}

/* Merge a block into the one before it, if both are nearly empty or one is empty. */
static void order_merge(UnitOrder *o, size_t at) {
        UnitBlock *first, *second;

        if (at == 0 || at >= o->n)
                return;
        first = o->blocks[at - 1];
        second = o->blocks[at];
        if (first->n > 0 && second->n > 0 && first->n + second->n > UNIT_BLOCK_MAX / 2)
                return;
        memcpy(first->units + first->n, second->units, second->n * sizeof(*second->units));
        first->n += second->n;
        free(second);
        o->n--;
        memmove(o->blocks + at, o->blocks + at + 1, (o->n - at) * sizeof(*o->blocks));
}

void unit_order_remove(UnitOrder *o, const ClusterUnit *unit) {
        UnitPosition p = order_find(o, unit->name, sizeof(unit->name), false);
        UnitBlock *block = o->blocks[p.block];

        if (p.at == block->n) { /* it is the first one of the next block */
                p = (UnitPosition) { p.block + 1, 0 };
                block = o->blocks[p.block];
        }
        assert(block->units[p.at] == unit);
        block->n--;
        memmove(block->units + p.at, block->units + p.at + 1, (block->n - p.at) * sizeof(*block->units));
        order_merge(o, p.block + 1);
        order_merge(o, p.block);
        if (o->n == 1 && o->blocks[0]->n == 0)
                unit_order_done(o);
}

void unit_order_done(UnitOrder *o) {
        for (size_t i = 0; i < o->n; i++)
                free(o->blocks[i]);
        free(o->blocks);
        *o = (UnitOrder) {};
}

ClusterUnit *unit_order_next(const UnitOrder *o, UnitPosition *p) {
        if (p->block < o->n && p->at == o->blocks[p->block]->n)
                *p = (UnitPosition) { .block = p->block + 1 };
        return p->block < o->n ? o->blocks[p->block]->units[p->at++] : NULL;
}

size_t unit_order_prefix(const UnitOrder *o, const char *start, size_t size, UnitPosition *ret) {
        UnitPosition end = order_find(o, start, size, true);
        size_t n = end.at;

        *ret = order_find(o, start, size, false);
        for (size_t i = ret->block; i < end.block; i++)
                n += o->blocks[i]->n;
        return n - ret->at;
}

void unit_order_seek(const UnitOrder *o, const char *name, UnitPosition *ret) {
        if (unit_order_prefix(o, name, strlen(name) + 1, ret) > 0)
                (void) unit_order_next(o, ret);
}

size_t unit_order_instances(const UnitOrder *o, const char *template, UnitPosition *ret) {
        const char *at = strchr(template, '@');

        return at ? unit_order_prefix(o, template, (size_t) (at + 1 - template), ret) : 0;
}
