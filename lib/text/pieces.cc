// SPDX-License-Identifier: Apache-2.0
// libsentencepiece is C++; nothing else here is.
extern "C" {
#include "text/pieces.h"
}

#include <sentencepiece_processor.h>

#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <vector>

struct piece_model {
    sentencepiece::SentencePieceProcessor sp;
};

extern "C" {

struct piece_model *piece_model_new(const void *proto, size_t n, struct err *e)
{
    if (piece_proto_check(proto, n, e)) {
        err_wrap(e, "not a sentencepiece model");
        return nullptr;
    }
    try {
        std::unique_ptr<struct piece_model> m(new piece_model);
        const auto status = m->sp.LoadFromSerializedProto(std::string((const char *)proto, n));
        if (status.ok())
            return m.release();
        err_set(e, "not a sentencepiece model: %s", status.ToString().c_str());
    } catch (const std::exception &x) {
        err_set(e, "sentencepiece: %s", x.what());
    }
    return nullptr;
}

void piece_model_free(struct piece_model *m)
{
    delete m;
}

size_t piece_model_size(const struct piece_model *m)
{
    return (size_t)m->sp.GetPieceSize();
}

int32_t piece_model_find(const struct piece_model *m, const char *piece)
{
    int id = m->sp.PieceToId(piece);
    return m->sp.IdToPiece(id) == piece ? id : -1;
}

int32_t piece_model_end(const struct piece_model *m)
{
    return m->sp.eos_id();
}

int piece_model_normalize(const struct piece_model *m, const uint8_t *text, size_t n,
                          struct text_bytes *out, struct err *e)
{
    try {
        std::vector<std::string> pieces;
        const auto status = m->sp.Encode(std::string((const char *)text, n), &pieces);
        if (!status.ok())
            return err_set(e, "sentencepiece: %s", status.ToString().c_str());
        size_t total = 0;
        for (const std::string &p : pieces)
            total += p.size();
        if (total > out->cap) {
            void *more = realloc(out->data, total);
            if (!more)
                return err_set(e, "out of memory");
            out->data = (uint8_t *)more;
            out->cap = total;
        }
        out->n = 0;
        for (const std::string &p : pieces) {
            memcpy(out->data + out->n, p.data(), p.size());
            out->n += p.size();
        }
        return 0;
    } catch (const std::exception &x) {
        return err_set(e, "sentencepiece: %s", x.what());
    }
}

int piece_model_encode(const struct piece_model *m, const uint8_t *text, size_t n, int32_t *ids,
                       size_t max, size_t *used, struct err *e)
{
    try {
        std::vector<int> all;
        const auto status = m->sp.Encode(std::string((const char *)text, n), &all);
        if (!status.ok())
            return err_set(e, "sentencepiece: %s", status.ToString().c_str());
        *used = all.size() < max ? all.size() : max;
        for (size_t i = 0; i < *used; i++)
            ids[i] = all[i];
        return 0;
    } catch (const std::exception &x) {
        return err_set(e, "sentencepiece: %s", x.what());
    }
}
}
