/* Fills the table of kernels for an ISA. */
#include "config.h"

#include "kernels/kernels.h"

#include <stdlib.h>
#include <string.h>

#include "base/sys.h"
#include "kernels/gemm.h"

enum isa { ISA_REF, ISA_BASE, ISA_AVX2, ISA_AVX512, N_ISAS };

static const char *const isa_names[N_ISAS] = {"ref", "base", "avx2", "avx512"};
static const char isa_list[] = "auto, ref, base, avx2, avx512";

/* Why this program cannot use the ISA here; NULL if it can. */
static const char *why_not(enum isa isa)
{
#ifdef DIVISION_REAL_DOUBLE
    return isa == ISA_REF ? NULL : "the double build has only \"ref\"";
#else
    const struct sys_isa cpu = sys_isa_get();
    switch (isa) {
    case ISA_AVX2:
#ifndef HAVE_KERNELS_AVX2
        return "this build has no AVX2 kernels (configured with --disable-avx2, or not for x86-64)";
#endif
        return cpu.avx2 ? NULL : "this processor has no AVX2 with FMA";
    case ISA_AVX512:
#ifndef HAVE_KERNELS_AVX512
        return "this build has no AVX-512 kernels (configured with --disable-avx512, or not for "
               "x86-64)";
#endif
        return cpu.avx512 ? NULL : "this processor has no AVX-512 F, BW, DQ and VL";
    default: return NULL;
    }
#endif
}

static void fill_group(struct kernels *k, enum isa isa)
{
    switch (isa) {
#ifndef DIVISION_REAL_DOUBLE
    case ISA_BASE:
        conv_kernels_fill_base(&k->conv);
        winograd_kernels_fill_base(&k->conv);
        loop_kernels_fill_base(&k->loop);
        codec_kernels_fill_base(&k->codec);
        break;
#ifdef HAVE_KERNELS_AVX2
    case ISA_AVX2:
        conv_kernels_fill_avx2(&k->conv);
        winograd_kernels_fill_avx2(&k->conv);
        loop_kernels_fill_avx2(&k->loop);
        codec_kernels_fill_avx2(&k->codec);
        break;
#endif
#ifdef HAVE_KERNELS_AVX512
    case ISA_AVX512:
        conv_kernels_fill_avx512(&k->conv);
        winograd_kernels_fill_avx512(&k->conv);
        loop_kernels_fill_avx512(&k->loop);
        codec_kernels_fill_avx512(&k->codec);
        break;
#endif
#endif
    default:
        conv_kernels_fill_ref(&k->conv);
        loop_kernels_fill_ref(&k->loop);
        codec_kernels_fill_ref(&k->codec);
        break;
    }
    k->isa = isa_names[isa];
}

/* The ISA that `name` asks for. `from` says where the name stands. */
static int isa_by_name(const char *name, const char *from, enum isa *out, struct err *err)
{
    if (strcmp(name, "auto") == 0) {
        *out = ISA_REF;
        for (int i = ISA_REF; i < N_ISAS; i++) {
            if (!why_not((enum isa)i)) {
                *out = (enum isa)i;
            }
        }
        return 0;
    }
    for (int i = ISA_REF; i < N_ISAS; i++) {
        if (strcmp(name, isa_names[i]) == 0) {
            const char *const reason = why_not((enum isa)i);
            *out = (enum isa)i;
            return reason ? err_set(err, ERR_UNSUPPORTED, "%s \"%s\": %s; use \"auto\"", from, name,
                                    reason)
                          : 0;
        }
    }
    return err_set(err, ERR_CONFIG, "%s \"%s\" is unknown; expected one of: %s", from, name,
                   isa_list);
}

int kernels_fill(struct kernels *k, const char *isa, struct err *err)
{
    const char *from = "instruction set";
    enum isa best = ISA_REF;

    if (!isa || strcmp(isa, "auto") == 0) {
        const char *const variable = getenv("DIVISION_ISA");
        isa = "auto";
        if (variable && *variable) {
            isa = variable;
            from = "environment variable DIVISION_ISA";
        }
    }
    int rc = isa_by_name(isa, from, &best, err);
    if (rc) {
        return rc;
    }
    struct kernels filled = {.algorithm = CONV_AUTO};
    for (int i = ISA_REF; i <= (int)best; i++) {
        if (!why_not((enum isa)i)) {
            fill_group(&filled, (enum isa)i);
        }
    }
    if (best != ISA_REF) {
        rc = gemm_use_library(&filled.conv, err);
        if (rc) {
            return rc;
        }
    }
    *k = filled;
    return 0;
}

static const struct {
    const char *name;
    enum conv_algorithm algorithm;
} algorithms[] = {
    {"auto", CONV_AUTO},   {"direct", CONV_DIRECT},     {"im2col", CONV_IM2COL},
    {"igemm", CONV_IGEMM}, {"winograd", CONV_WINOGRAD},
};
enum { N_ALGORITHMS = sizeof(algorithms) / sizeof(algorithms[0]) };

const char *kernels_algorithm_name(enum conv_algorithm algorithm)
{
    for (size_t i = 0; i < N_ALGORITHMS; i++) {
        if (algorithms[i].algorithm == algorithm) {
            return algorithms[i].name;
        }
    }
    return "?";
}

int kernels_set_algorithm(struct kernels *k, const char *name, struct err *err)
{
    for (size_t i = 0; i < N_ALGORITHMS; i++) {
        if (strcmp(name, algorithms[i].name) == 0) {
            k->algorithm = algorithms[i].algorithm;
            return 0;
        }
    }
    return err_set(err, ERR_CONFIG,
                   "convolution algorithm \"%s\" is unknown; expected one of: auto, direct, "
                   "im2col, igemm, winograd",
                   name);
}

const char *const *kernels_isas(size_t *n)
{
    /* By (AVX2, AVX-512): a build may lack either. */
    static const char *const lists[4][N_ISAS] = {
        {"ref", "base"},
        {"ref", "base", "avx2"},
        {"ref", "base", "avx512"},
        {"ref", "base", "avx2", "avx512"},
    };
    const int avx2 = !why_not(ISA_AVX2), avx512 = !why_not(ISA_AVX512);
    *n = why_not(ISA_BASE) ? 1 : (size_t)(2 + avx2 + avx512);
    return lists[avx2 + 2 * avx512];
}
