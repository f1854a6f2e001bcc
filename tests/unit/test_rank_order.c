// SPDX-License-Identifier: BSD-3-Clause
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/placement/rank_order.h"

enum { MOST_NODES = 64, MOST_SEATS = 16, MOST_RANKS = MOST_NODES * MOST_SEATS, LINE = 4096 };

// A machine of tests/data/topologies and what must come out of it.
typedef struct machine {
    struct {
        char name[32], switches[64];
        int32_t seats, numa[MOST_SEATS];
    } node[MOST_NODES];
    int32_t nodes, per_switch, ranks;
    pr_rank_names names[MOST_RANKS];
    pr_rank_seat seat[MOST_RANKS];
    pr_layout layout;
    pr_order_score score, launcher;
    int32_t order[MOST_RANKS], ordered;
} machine;

static void read_node(machine *m, int32_t copies, char *at)
{
    char *name = copies ? NULL : strtok_r(NULL, " \n", &at);
    char *switches = strtok_r(NULL, " \n", &at);
    int32_t first = m->nodes;
    m->nodes += copies ? copies : 1;
    assert_true(m->nodes <= MOST_NODES);
    for (int32_t i = first; i < m->nodes; i++) {
        char number[12] = "";
        const char *percent = strchr(switches, '%');
        if (name)
            snprintf(m->node[i].name, sizeof m->node[i].name, "%s", name);
        else
            snprintf(m->node[i].name, sizeof m->node[i].name, "node%d", (int)i);
        if (percent)
            snprintf(number, sizeof number, "%d", (int)(i / m->per_switch));
        if (switches[0] != '-')
            snprintf(
                m->node[i].switches, sizeof m->node[i].switches, "%.*s%s",
                (int)strcspn(switches, "%"), switches, number);
    }
    for (char *numa = strtok_r(NULL, " \n", &at); numa; numa = strtok_r(NULL, " \n", &at)) {
        for (int32_t i = first; i < m->nodes; i++)
            m->node[i].numa[m->node[i].seats++] = numa[0] == '-' ? -1 : atoi(numa);
    }
}

static void add_rank(machine *m, int32_t node, int32_t seat)
{
    pr_rank_names *names = &m->names[m->ranks++];
    memcpy(names->host, m->node[node].name, sizeof m->node[node].name);
    memcpy(names->switches, m->node[node].switches, sizeof m->node[node].switches);
    names->numa = m->node[node].numa[seat];
}

static void launch(machine *m, bool cyclic)
{
    for (int32_t a = 0; a < (cyclic ? MOST_SEATS : m->nodes); a++) {
        for (int32_t b = 0; b < (cyclic ? m->nodes : MOST_SEATS); b++) {
            int32_t node = cyclic ? b : a, seat = cyclic ? a : b;
            if (seat < m->node[node].seats)
                add_rank(m, node, seat);
        }
    }
}

static void read_layout(machine *m, char *at)
{
    for (char *role = strtok_r(NULL, " \n", &at); role; role = strtok_r(NULL, " \n", &at)) {
        char *groups = strtok_r(NULL, " \n", &at), *inner;
        for (char *piece = strtok_r(groups, ",", &inner); piece;
             piece = strtok_r(NULL, ",", &inner)) {
            int copies = 0, ranks = 0, tp = 1;
            assert_true(sscanf(piece, "%dx%d:tp=%d", &copies, &ranks, &tp) >= 2);
            for (int i = 0; i < copies; i++) {
                m->layout.group[m->layout.groups++] = (pr_group_layout){
                    .role = role[0] == 'm'   ? PR_ROLE_MIXED
                            : role[0] == 'p' ? PR_ROLE_PREFILL
                                             : PR_ROLE_DECODE,
                    .first_rank = m->layout.ranks,
                    .ranks = ranks,
                    .tp = tp,
                };
                m->layout.ranks += ranks;
            }
        }
    }
}

static void read_score(pr_order_score *score, char *at)
{
    long long v[5];
    assert_int_equal(sscanf(at, "%lld %lld %lld %lld %lld", &v[0], &v[1], &v[2], &v[3], &v[4]), 5);
    *score = (pr_order_score){v[0], v[1], v[2], v[3], v[4]};
}

static void read_line(machine *m, char *line)
{
    char *at, *word = strtok_r(line, " \n", &at);
    if (!word || word[0] == '#')
        return;
    if (strcmp(word, "per-switch") == 0)
        m->per_switch = atoi(at);
    else if (strcmp(word, "node") == 0)
        read_node(m, 0, at);
    else if (strcmp(word, "nodes") == 0)
        read_node(m, atoi(at), strchr(at, ' '));
    else if (strcmp(word, "launch") == 0)
        launch(m, strncmp(at, "cyclic", 6) == 0);
    else if (strcmp(word, "controller") == 0)
        m->layout.ranks = m->layout.dedicated_controller = 1;
    else if (strcmp(word, "layout") == 0)
        read_layout(m, at);
    else if (strcmp(word, "score") == 0)
        read_score(&m->score, at);
    else if (strcmp(word, "launcher") == 0)
        read_score(&m->launcher, at);
    else if (strcmp(word, "order") == 0)
        for (char *rank = strtok_r(NULL, " \n", &at); rank; rank = strtok_r(NULL, " \n", &at))
            m->order[m->ordered++] = atoi(rank);
    else
        fail_msg("no such directive: %s", word);
}

static machine *read_machine(const char *name)
{
    char path[512], line[LINE];
    machine *m = calloc(1, sizeof *m);
    pr_switch_fact fact;
    snprintf(path, sizeof path, PR_SOURCE_DIR "/tests/data/topologies/%s", name);
    FILE *file = fopen(path, "r");
    assert_non_null(m);
    assert_non_null(file);
    while (fgets(line, sizeof line, file))
        read_line(m, line);
    fclose(file);
    assert_int_equal(m->ranks, m->layout.ranks);
    assert_int_equal(pr_rank_seats_number(m->names, m->ranks, m->seat, &fact), PR_OK);
    return m;
}

// Tells and counts what is not as expected, so that one run shows all files that differ.
static int32_t differ(const char *name, const pr_order_score *is, const pr_order_score *expected)
{
    if (pr_order_score_compare(is, expected) == 0)
        return 0;
    print_error(
        "%s: %lld %lld %lld %lld %lld\n", name, (long long)is->split_lanes,
        (long long)is->group_nodes, (long long)is->group_switches, (long long)is->numa_lanes,
        (long long)is->handover);
    return 1;
}

static void assert_permutation(const pr_rank_order *order, int32_t ranks)
{
    bool seen[MOST_RANKS] = {false};
    assert_int_equal(order->launched[0], 0);
    for (int32_t i = 0; i < ranks; i++) {
        assert_in_range(order->launched[i], 0, ranks - 1);
        assert_false(seen[order->launched[i]]);
        seen[order->launched[i]] = true;
    }
}

static int32_t check_machine(const char *name)
{
    machine *m = read_machine(name);
    pr_rank_order order;
    assert_int_equal(pr_rank_order_find(&m->layout, m->seat, &order), PR_OK);
    assert_permutation(&order, m->ranks);
    int32_t different = differ(name, &order.launcher_score, &m->launcher);
    different += differ(name, &order.score, &m->score);
    assert_int_equal(
        order.changed, pr_order_score_compare(&order.score, &order.launcher_score) != 0);
    for (int32_t i = 0; i < m->ordered; i++) {
        if (order.launched[i] == m->order[i])
            continue;
        print_error("%s: our rank %d was rank %d\n", name, (int)i, (int)order.launched[i]);
        different++;
    }
    pr_rank_order_release(&order);
    free(m);
    return different;
}

static void every_machine_is_ordered_as_its_file_says(void **state)
{
    (void)state;
    int32_t machines = 0, different = 0;
    DIR *folder = opendir(PR_SOURCE_DIR "/tests/data/topologies");
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder));) {
        if (!strstr(entry->d_name, ".txt"))
            continue;
        different += check_machine(entry->d_name);
        machines++;
    }
    closedir(folder);
    assert_int_equal(different, 0);
    assert_in_range(machines, 10, 1000);
}

// Nodes of each group, as a sorted list of counts of ranks on a node.
static void count_on_nodes(const machine *m, const pr_rank_order *order, int32_t *count)
{
    memset(count, 0, sizeof(int32_t) * MOST_NODES);
    for (int32_t g = 0; g < m->layout.groups; g++) {
        const pr_group_layout *group = &m->layout.group[g];
        int32_t node = m->seat[order->launched[group->first_rank]].node;
        for (int32_t i = 0; i < group->ranks; i++)
            assert_int_equal(m->seat[order->launched[group->first_rank + i]].node, node);
        count[node]++;
    }
}

static void block_and_cyclic_starts_give_the_same_groups_per_node(void **state)
{
    (void)state;
    machine *block = read_machine("block_4x4.txt"), *cyclic = read_machine("cyclic_4x4.txt");
    pr_rank_order a, b;
    int32_t on_block[MOST_NODES], on_cyclic[MOST_NODES];
    assert_int_equal(pr_rank_order_find(&block->layout, block->seat, &a), PR_OK);
    assert_int_equal(pr_rank_order_find(&cyclic->layout, cyclic->seat, &b), PR_OK);
    assert_false(a.changed);
    assert_true(b.changed);
    count_on_nodes(block, &a, on_block);
    count_on_nodes(cyclic, &b, on_cyclic);
    assert_memory_equal(on_block, on_cyclic, sizeof on_block);
    assert_int_equal(on_block[0], 1);
    pr_rank_order_release(&a);
    pr_rank_order_release(&b);
    free(block);
    free(cyclic);
}

static uint32_t draw(uint32_t *state, uint32_t below)
{
    *state = *state * 1664525u + 1013904223u;
    return (*state >> 8) % below;
}

// Groups of random shapes until the ranks are used up.
static void draw_layout(machine *m, uint32_t *state)
{
    bool split = draw(state, 2);
    m->layout = (pr_layout){.dedicated_controller = draw(state, 4) == 0};
    m->layout.ranks = m->layout.dedicated_controller;
    while (m->layout.ranks < m->ranks) {
        int32_t left = m->ranks - m->layout.ranks, tp = 1 << draw(state, 4);
        tp = tp > left ? 1 : tp;
        int32_t lanes = 1 + (int32_t)draw(state, (uint32_t)(left / tp));
        m->layout.group[m->layout.groups] = (pr_group_layout){
            .role = split ? PR_ROLE_PREFILL + m->layout.groups % 2 : PR_ROLE_MIXED,
            .first_rank = m->layout.ranks,
            .ranks = tp * lanes,
            .tp = tp,
        };
        m->layout.groups++;
        m->layout.ranks += tp * lanes;
    }
}

static void any_machine_and_layout_give_a_permutation_that_costs_no_more(void **state)
{
    (void)state;
    uint32_t random = 7;
    machine *m = calloc(1, sizeof *m);
    assert_non_null(m);
    for (int32_t round = 0; round < 2000; round++) {
        pr_switch_fact fact;
        pr_rank_order order;
        m->ranks = 2 + (int32_t)draw(&random, 60);
        for (int32_t i = 0; i < m->ranks; i++) {
            uint32_t node = draw(&random, 1 + (uint32_t)round % 9);
            snprintf(m->names[i].host, PR_HOST_BYTES, "n%u", node);
            snprintf(m->names[i].switches, PR_SWITCH_BYTES, "t.m%u.l%u", node / 4, node / 2);
            m->names[i].numa = (int32_t)draw(&random, 3) - 1;
        }
        assert_int_equal(pr_rank_seats_number(m->names, m->ranks, m->seat, &fact), PR_OK);
        draw_layout(m, &random);
        assert_int_equal(pr_rank_order_find(&m->layout, m->seat, &order), PR_OK);
        assert_permutation(&order, m->ranks);
        int against = pr_order_score_compare(&order.score, &order.launcher_score);
        assert_int_equal(order.changed, against < 0);
        assert_true(against <= 0);
        pr_rank_order_release(&order);
    }
    free(m);
}

static void seats_are_numbered_in_the_order_of_ranks(void **state)
{
    (void)state;
    const pr_rank_names names[] = {
        {"n3", "s0.s2", 1}, {"n1", "s0.s1", 0}, {"n3", "s0.s2", 0}, {"n2", "s0.s1", -1}};
    pr_rank_seat seat[4];
    pr_switch_fact fact;
    assert_int_equal(pr_rank_seats_number(names, 4, seat, &fact), PR_OK);
    assert_int_equal(fact, PR_SWITCHES_MANY);
    assert_int_equal(seat[0].node, 0);
    assert_int_equal(seat[1].node, 1);
    assert_int_equal(seat[2].node, 0);
    assert_int_equal(seat[3].node, 2);
    assert_int_equal(seat[0].numa, 1);
    assert_int_equal(seat[3].numa, -1);
    assert_int_equal(pr_rank_seat_distance(&seat[0], &seat[2]), 0);
    assert_int_equal(pr_rank_seat_distance(&seat[1], &seat[3]), 1);
    assert_int_equal(pr_rank_seat_distance(&seat[0], &seat[1]), 2);
}

static void switches_of_a_copied_environment_are_discarded(void **state)
{
    (void)state;
    const pr_rank_names names[] = {{"n1", "s1", 0}, {"n1", "s2", 0}, {"n2", "s2", 0}};
    pr_rank_seat seat[3];
    pr_switch_fact fact;
    assert_int_equal(pr_rank_seats_number(names, 3, seat, &fact), PR_OK);
    assert_int_equal(fact, PR_SWITCHES_DISCARDED);
    assert_int_equal(pr_rank_seat_distance(&seat[0], &seat[2]), 1);
    const pr_rank_names unknown[] = {{"n1", "", 0}, {"n2", "", 0}};
    assert_int_equal(pr_rank_seats_number(unknown, 2, seat, &fact), PR_OK);
    assert_int_equal(fact, PR_SWITCHES_UNKNOWN);
    const pr_rank_names same[] = {{"n1", "s1", 0}, {"n2", "s1", 0}};
    assert_int_equal(pr_rank_seats_number(same, 2, seat, &fact), PR_OK);
    assert_int_equal(fact, PR_SWITCHES_ONE);
}

static void slurms_address_without_the_node_is_the_switches(void **state)
{
    (void)state;
    char switches[PR_SWITCH_BYTES], longest[400];
    pr_rank_switches_of("s0.s1.n1", "switch.switch.node", switches);
    assert_string_equal(switches, "s0.s1");
    pr_rank_switches_of("n1", "node", switches);
    assert_string_equal(switches, "");
    pr_rank_switches_of("s[0-1].n1", "switch.node", switches);
    assert_string_equal(switches, "s[0-1]");
    pr_rank_switches_of(NULL, "node", switches);
    assert_string_equal(switches, "");
    pr_rank_switches_of("s0.s1", NULL, switches);
    assert_string_equal(switches, "");
    memset(longest, 's', sizeof longest);
    memcpy(longest + sizeof longest - 4, ".n1", 4);
    pr_rank_switches_of(longest, "switch.node", switches);
    assert_string_equal(switches, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_machine_is_ordered_as_its_file_says),
        cmocka_unit_test(block_and_cyclic_starts_give_the_same_groups_per_node),
        cmocka_unit_test(any_machine_and_layout_give_a_permutation_that_costs_no_more),
        cmocka_unit_test(seats_are_numbered_in_the_order_of_ranks),
        cmocka_unit_test(switches_of_a_copied_environment_are_discarded),
        cmocka_unit_test(slurms_address_without_the_node_is_the_switches),
    };
    return cmocka_run_group_tests_name("rank_order", tests, NULL, NULL);
}
