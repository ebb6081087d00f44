#!/usr/bin/env python3
"""Expert-parallel baselines for ONE SwiGLU MoE layer in bf16 training: what torch 2.11 + NCCL + a little Triton gives.

    python3 bench_peers_ep.py                            # W = 4 then W = 2, all shapes and variants, <= --budget (300) s
    python3 bench_peers_ep.py --ws 4 --shapes qwen3,mixtral --variants plain,chunked2
    python3 bench_peers_ep.py --selftest-cpu             # no GPU: gloo, float32, every variant against the reference

The compact table is printed last (by the parent, which needs no torch); it goes to $OUT/ep_table.txt too, the numbers of every
rank and iteration to $OUT/ep_results.json (without OUT: beside this file).
Run so far on a CPU only (torch 1.13, gloo): all variants, forward and backward, W = 2 and 4, match the reference to 3e-7;
planted errors, hangs and dead ranks are caught.  Never run on a GPU: NCCL, grouped_mm and Triton meet this file there first.
One process per rank, started here; env:// rendezvous on 127.0.0.1; NVLink multicast off.

Layer (the maths of bench_peers.py; routing is given, uniform random, the same T tokens on every rank):
    y[t] = sum_k s[t,k] * W2[e] @ ( silu(W1g[e] x[t]) * (W1u[e] x[t]) ),  e = idx[t,k],  experts split evenly over W ranks
fwd = forward in training mode (all that the backward needs is kept); fb = forward, then gradients of x, W1, W2 and s.
Everything after (idx, s) is timed: sort, counts, the counts' all-to-all and its one host wait, packing, rows' all-to-all,
re-sort by local expert, grouped GEMMs and SwiGLU, un-sort, all-to-all back, gather-sum.
Experts are gmm_fused's blocks (grouped_mm, Triton SwiGLU/dSwiGLU/gather-sum, s folded into the activation), imported from
bench_peers.py; rows move with index_select as there.  s travels with the rows, so the return is a plain sum and the
down-projection's output is never kept.  Kept for the backward: received rows by expert, pre-activations, s, indices.
Per rank model FLOPs: fwd 6*T*K*H*I, fb 18*T*K*H*I.

Variants
  plain         one all-to-all each way, nothing overlaps the experts.
  plain_ov      plain, but s/ds travel behind a GEMM, and the backward's dx return runs under the weight-gradient GEMMs.
  chunked2/4    tokens in 2/4 chunks, FORWARD AND BACKWARD: all dispatches are issued up front on NCCL's own high-priority
                stream, chunk c's experts run while c+1 is in flight and c-1 returns; all dW GEMMs run last, under the
                last returns.  dW of the chunks is added up in bf16 (grouped_mm has no accumulate).
  echunk2/4     the same pipeline, chunked by LOCAL EXPERT: full rows per GEMM, weights read once, no dW to add up.  The
                weights are then 2/4 parameters per matrix, which avoids chunked's extra cost.
  allgather     all-gather of x (and of idx, s), local experts, masked gather-sum, reduce-scatter (bf16 partial sums).
  allgather_ov  the same with the backward's reduce-scatters under the weight-gradient GEMMs.
The *_ov, chunked and echunk variants are tuned per shape, forward and backward apart, over (communicator, SMs that
grouped_mm leaves free): f/0, f/32, m16/16 (m16 = a second communicator with max_ctas 16); 'cfg' shows what won.

Bounds measured alone per shape: dispatch all-to-all (MB that leave a rank, ms, GB/s per direction), all collectives of fwd
and of fb in a row (t_comm), the experts on rows already dispatched and sorted (t_compute), and the plain layer with its
collectives taken out (t_local = t_compute + sort, pack, re-sort, combine, host wait).
  ov  = (t_comm + t_compute - t_layer) / min(t_comm, t_compute)    as asked; below 0 when the moves above cost more than is hidden
  ovL = (t_comm + t_local   - t_layer) / min(t_comm, t_local)      the overlap proper: plain is near 0, perfect is 100
Time: CUDA events round each iteration, iterations queued back to back after 3 warm-ups and dist.barrier; per iteration the
maximum over the ranks, then the median over >= 10 iterations.
"""
import argparse
import json
import os
import selectors
import socket
import subprocess
import sys
import threading
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
SHAPES = {  # name: (T per rank, H, I, E over all ranks, K)
    "mixtral": (8192, 4096, 14336, 8, 2),
    "qwen3": (8192, 2048, 768, 128, 8),
    "qwen3-32k": (32768, 2048, 768, 128, 8),
    "dsv3-64": (8192, 7168, 2048, 64, 8),
    "dbrx": (8192, 6144, 10752, 16, 4),
    "olmoe": (8192, 2048, 1024, 64, 8),
}
CHECK = (512, 512, 256, 16, 4)
CPU_SHAPES = {"a": (64, 32, 16, 16, 2), "b": (48, 24, 40, 8, 3)}  # --selftest-cpu
CPU_CHECK = (96, 32, 16, 16, 3)
VARIANTS = {  # name: (kind, chunks, chunked by, overlap)
    "plain": ("a2a", 1, "tok", False),
    "plain_ov": ("a2a", 1, "tok", True),
    "chunked2": ("a2a", 2, "tok", True),
    "chunked4": ("a2a", 4, "tok", True),
    "echunk2": ("a2a", 2, "exp", True),
    "echunk4": ("a2a", 4, "exp", True),
    "allgather": ("ag", 1, "tok", False),
    "allgather_ov": ("ag", 1, "tok", True),
}
MEM_GIB = 126.0
PG_TIMEOUT_S = 60


def log(*a):
    print(*a, file=sys.stderr, flush=True)


def fits(variant, El):
    kind, C, by, _ = VARIANTS[variant]
    return by != "exp" or (El >= C and El % C == 0)


# A kernel beside gather_sum's: rows that are not on this rank have inv < 0 and are not read.  (tl is injected by layers().)
def _gather_sum_masked_kernel(y_ptr, inv_ptr, o_ptr, H, K: "tl.constexpr", BLOCK: "tl.constexpr"):  # noqa: F821
    t = tl.program_id(0).to(tl.int64)  # noqa: F821
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)  # noqa: F821
    m = c < H
    acc = tl.zeros([BLOCK], dtype=tl.float32)  # noqa: F821
    for k in range(K):
        p = tl.load(inv_ptr + t * K + k).to(tl.int64)  # noqa: F821
        acc += tl.load(y_ptr + p * H + c, mask=m & (p >= 0), other=0.0).to(tl.float32)  # noqa: F821
    tl.store(o_ptr + t * H + c, acc.to(o_ptr.dtype.element_ty), mask=m)  # noqa: F821


# ----------------------------------------------------------------------------------------------------------------
# worker side: collectives
# ----------------------------------------------------------------------------------------------------------------
class Done:
    def wait(self):
        pass


class Wait:
    """A collective in flight; wait() makes the current stream wait (the host does not), once."""

    def __init__(self, work):
        self.work = work

    def wait(self):
        if self.work is not None:
            self.work.wait()
            self.work = None


class Comm:
    """Collectives on NCCL's own (high-priority) stream: ordered after what the current stream holds when issued."""

    def __init__(self, dist, torch, group, rank, W):
        self.dist, self.torch, self.g, self.rank, self.W = dist, torch, group, rank, W

    def counts(self, send):  # [W, ...] -> [W, ...], on the current stream
        recv = self.torch.empty_like(send)
        self.dist.all_to_all_single(recv, send, group=self.g)
        return recv

    def buf(self, shape, like):
        return self.torch.empty(shape, dtype=like.dtype, device=like.device)

    def a2a(self, out, inp, out_sizes, in_sizes):
        return Wait(self.dist.all_to_all_single(out, inp, out_sizes, in_sizes, group=self.g, async_op=True))

    def ag(self, x, tag=None):
        out = self.torch.empty((self.W * x.shape[0],) + tuple(x.shape[1:]), dtype=x.dtype, device=x.device)
        if not x.is_cuda:
            self.dist.all_gather(list(out.chunk(self.W)), x)
            return out, Done()
        return out, Wait(self.dist.all_gather_into_tensor(out, x, group=self.g, async_op=True))

    def rs(self, x, tag=None):
        n = x.shape[0] // self.W
        if not x.is_cuda:
            t = x.clone()
            self.dist.all_reduce(t)
            return t[self.rank * n : (self.rank + 1) * n].clone(), Done()
        out = self.torch.empty((n,) + tuple(x.shape[1:]), dtype=x.dtype, device=x.device)
        return out, Wait(self.dist.reduce_scatter_tensor(out, x, group=self.g, async_op=True))


class NullComm(Comm):
    """Free collectives, for the layer's local work alone: true counts, random rows."""

    def __init__(self, base, recv, meta):
        super().__init__(base.dist, base.torch, base.g, base.rank, base.W)
        self.recv, self.meta, self.keep = recv, meta, {}

    def counts(self, send):
        return self.recv

    def buf(self, shape, like):
        key = (tuple(shape), like.dtype)
        if key not in self.keep:
            self.keep[key] = self.torch.randn(shape, dtype=like.dtype, device=like.device)
        return self.keep[key]

    def a2a(self, out, inp, out_sizes, in_sizes):
        return Done()

    def ag(self, x, tag=None):
        if tag == "meta":
            return self.meta, Done()
        return self.buf((self.W * x.shape[0],) + tuple(x.shape[1:]), x), Done()

    def rs(self, x, tag=None):
        return x[: x.shape[0] // self.W], Done()


class Cfg:
    def __init__(self, comm, E, C=1, by="tok", ov=False):
        self.comm, self.E, self.C, self.by, self.ov = comm, E, C, by, ov
        self.El = E // comm.W


# ----------------------------------------------------------------------------------------------------------------
# worker side: the layers
# ----------------------------------------------------------------------------------------------------------------
_layers = {}


def layers():
    if _layers:
        return _layers
    sys.path.insert(0, HERE)
    import bench_peers

    L = bench_peers.lib()
    torch, triton = L["torch"], L["triton"]
    gmm, swiglu_fwd, swiglu_bwd = L["gmm"], L["swiglu_fwd"], L["swiglu_bwd"]
    gather_sum, permutation = L["gather_sum"], L["permutation"]
    if triton is not None:
        globals()["tl"] = L["tl"]
        masked_k = triton.jit(_gather_sum_masked_kernel)
        gather_sum_k = L["gather_sum_k"]

    def rows(a, i):
        return a.index_select(0, i)

    def block(H):
        return min(1024, triton.next_power_of_2(H))

    def gather_sum_into(out, y, inv, K):
        """out[t] = sum_k y[inv[t*K+k]] for a slice of the tokens."""
        n, H = out.shape
        if triton is None:
            out.copy_(gather_sum(y, inv, n, K))
        else:
            blk = block(H)
            gather_sum_k[(n, triton.cdiv(H, blk))](y, inv, out, H, K=K, BLOCK=blk, num_warps=4)

    def gather_sum_masked(y, inv, n, K):
        H = y.shape[1]
        if triton is None:
            z = torch.cat([y, torch.zeros(1, H, dtype=y.dtype, device=y.device)])
            return z[inv].view(n, K, H).float().sum(1).to(y.dtype)  # inv = -1 reads the zero row
        o = torch.empty(n, H, dtype=y.dtype, device=y.device)
        blk = block(H)
        masked_k[(n, triton.cdiv(H, blk))](y, inv, o, H, K=K, BLOCK=blk, num_warps=4)
        return o

    def to_host(t):
        """Starts the copy; the returned function waits for that copy only (not for what is queued after it)."""
        if not t.is_cuda:
            return t.tolist
        b = torch.empty(t.shape, dtype=t.dtype, pin_memory=True)
        b.copy_(t, non_blocking=True)
        ev = torch.cuda.Event()
        ev.record()

        def get():
            ev.synchronize()
            return b.tolist()

        return get

    def route(cfg, idx):
        """Send order (chunk, rank, local expert), counts exchanged, the splits' copy to the host under way."""
        C, W, El, E = cfg.C, cfg.comm.W, cfg.El, cfg.E
        T, K = idx.shape
        key = idx
        if C > 1:
            if cfg.by == "tok":
                key = idx + (torch.arange(T, device=idx.device, dtype=idx.dtype) // (T // C) * E)[:, None]
            else:
                key = idx + (idx % El) // (El // C) * E
        order, inv, _, cnt = permutation(key, C * E)
        send = cnt.view(C, W, El).transpose(0, 1).contiguous()  # [to rank, chunk, its local expert]
        recv = cfg.comm.counts(send)  # [from rank, chunk, my local expert]
        get = to_host(torch.stack([send.sum(2), recv.sum(2)]))

        def splits():
            i, o = get()  # [rank][chunk]
            ins = [[i[w][c] for w in range(W)] for c in range(C)]
            outs = [[o[w][c] for w in range(W)] for c in range(C)]
            sb, rb = [0], [0]
            for c in range(C):
                sb.append(sb[-1] + sum(ins[c]))
                rb.append(rb[-1] + sum(outs[c]))
            return ins, outs, sb, rb

        return order, inv, order // K, recv, splits

    def layout(cfg, recv, rb):
        """Received rows lie by (chunk, source, local expert); the GEMMs want (chunk, local expert, source).  No host wait.
        perm: sorted position -> received row; back[c]: received row of chunk c -> sorted position in chunk c."""
        C, W, El, n = cfg.C, cfg.comm.W, cfg.El, rb[-1]
        a = recv.permute(1, 0, 2).reshape(-1).long()
        start = (a.cumsum(0) - a).view(C, W, El).permute(0, 2, 1).reshape(-1)
        blk = recv.permute(1, 2, 0).reshape(-1).long()
        shift = start - (blk.cumsum(0) - blk)
        pos = torch.arange(n, device=recv.device)
        perm = pos + shift.index_select(0, torch.repeat_interleave(blk, output_size=n))
        inv = torch.empty_like(perm)
        inv[perm] = pos
        back = [inv[rb[c] : rb[c + 1]] - rb[c] if c else inv[: rb[1]] for c in range(C)]
        offs = recv.sum(0).cumsum(1).to(torch.int32)
        if cfg.by == "exp" and C > 1:
            g = El // C
            offs = [offs[c, c * g : (c + 1) * g].contiguous() for c in range(C)]
        else:
            offs = [offs[c] for c in range(C)]
        return perm, back, offs

    class EP(torch.autograd.Function):
        @staticmethod
        def forward(ctx, cfg, x, s, idx, *ws):
            comm, C = cfg.comm, cfg.C
            (T, K), H = idx.shape, x.shape[1]
            nw = len(ws) // 2
            w1s, w2s = ws[:nw], ws[nw:]
            order, inv, tok, recv, splits = route(cfg, idx)
            xp = rows(x, tok)  # runs while the host waits for the splits
            sp = s.reshape(-1)[order].float()
            ins, outs, sb, rb = splits()
            xr, sr = comm.buf((rb[-1], H), x), comm.buf((rb[-1],), sp)
            wx, wsc = [], []
            for c in range(C):
                wx.append(comm.a2a(xr[rb[c] : rb[c + 1]], xp[sb[c] : sb[c + 1]], outs[c], ins[c]))
                wsc.append(comm.a2a(sr[rb[c] : rb[c + 1]], sp[sb[c] : sb[c + 1]], outs[c], ins[c]))
            perm, back, offs = layout(cfg, recv, rb)
            if not cfg.ov:
                for w in wx + wsc:
                    w.wait()
            yr = comm.buf((sb[-1], H), x)
            wy, hold, xss, zs, sss = [], [], [], [], []
            for c in range(C):
                w1, w2, pc = w1s[c % nw], w2s[c % nw], perm[rb[c] : rb[c + 1]]
                wx[c].wait()
                xs = rows(xr, pc)
                z = gmm(xs, w1.transpose(-2, -1), offs[c])
                wsc[c].wait()
                ss = sr.index_select(0, pc)
                yb = rows(gmm(swiglu_fwd(z, ss), w2.transpose(-2, -1), offs[c]), back[c])
                w = comm.a2a(yr[sb[c] : sb[c + 1]], yb, ins[c], outs[c])
                if not cfg.ov:
                    w.wait()
                wy.append(w)
                hold.append(yb)
                xss.append(xs)
                zs.append(z)
                sss.append(ss)
            if C == 1 or cfg.by == "exp":
                for w in wy:
                    w.wait()
                out = gather_sum(yr, inv, T, K)
            else:
                out, n = torch.empty_like(x), T // C
                for c in range(C):
                    wy[c].wait()
                    gather_sum_into(out[c * n : (c + 1) * n], yr, inv[c * n * K : (c + 1) * n * K], K)
            ctx.save_for_backward(tok, inv, perm, *back, *offs, *xss, *zs, *sss, *ws)
            ctx.meta = (cfg, T, K, ins, outs, sb, rb, nw, s.dtype)
            return out

        @staticmethod
        def backward(ctx, do):
            cfg, T, K, ins, outs, sb, rb, nw, sdt = ctx.meta
            comm, C = cfg.comm, cfg.C
            tok, inv, perm, *rest = ctx.saved_tensors
            back, offs, xss, zs, sss = (rest[i * C : (i + 1) * C] for i in range(5))
            w1s, w2s = rest[5 * C : 5 * C + nw], rest[5 * C + nw :]
            H = do.shape[1]
            dyp = rows(do.contiguous(), tok)
            dyr = comm.buf((rb[-1], H), do)
            wk = [comm.a2a(dyr[rb[c] : rb[c + 1]], dyp[sb[c] : sb[c + 1]], outs[c], ins[c]) for c in range(C)]
            dxr = comm.buf((sb[-1], H), do)
            dsr = comm.buf((sb[-1],), sss[0])
            kept, wdx, wds, hold = [], [], [], []
            for c in range(C):
                w1, w2, oc = w1s[c % nw], w2s[c % nw], offs[c]
                wk[c].wait()
                dy = rows(dyr, perm[rb[c] : rb[c + 1]])
                dz, as_, ds = swiglu_bwd(zs[c], gmm(dy, w2, oc), sss[c])
                dsb = ds.index_select(0, back[c])
                wds.append(comm.a2a(dsr[sb[c] : sb[c + 1]], dsb, ins[c], outs[c]))
                dxb = rows(gmm(dz, w1, oc), back[c])
                wdx.append(comm.a2a(dxr[sb[c] : sb[c + 1]], dxb, ins[c], outs[c]))
                if not cfg.ov:
                    wds[c].wait()
                    wdx[c].wait()
                hold.append((dsb, dxb))
                kept.append((dy, as_, dz))
            dw1, dw2 = [], []
            for c in range(C):
                dy, as_, dz = kept[c]
                kept[c] = None
                g2, g1 = gmm(dy.t(), as_, offs[c]), gmm(dz.t(), xss[c], offs[c])
                if c < nw:
                    dw1.append(g1)
                    dw2.append(g2)
                else:  # chunked by token: one weight for all chunks
                    dw1[0].add_(g1)
                    dw2[0].add_(g2)
            if C == 1 or cfg.by == "exp":
                for w in wdx:
                    w.wait()
                dx = gather_sum(dxr, inv, T, K)
            else:
                dx, n = torch.empty(T, H, dtype=do.dtype, device=do.device), T // C
                for c in range(C):
                    wdx[c].wait()
                    gather_sum_into(dx[c * n : (c + 1) * n], dxr, inv[c * n * K : (c + 1) * n * K], K)
            for w in wds:
                w.wait()
            return (None, dx, dsr[inv].view(T, K).to(sdt), None, *dw1, *dw2)

    class AG(torch.autograd.Function):
        @staticmethod
        def forward(ctx, cfg, x, s, idx, w1, w2):
            comm, El = cfg.comm, cfg.El
            T, K = idx.shape
            meta, wm = comm.ag(torch.cat([idx, s.float().view(torch.int32)], 1), "meta")
            xa, wx = comm.ag(x)
            wm.wait()
            le = meta[:, :K].reshape(-1) - comm.rank * El
            pos = ((le >= 0) & (le < El)).nonzero().reshape(-1)  # the host wait; x is in flight meanwhile
            order, _, offs, _ = permutation(le.index_select(0, pos), El)
            sel = pos.index_select(0, order)  # sorted position -> flat (t, k) of all ranks' tokens
            inv = torch.full((comm.W * T * K,), -1, dtype=torch.int64, device=x.device)
            inv[sel] = torch.arange(sel.numel(), device=x.device)
            tok = sel // K
            ss = meta[:, K:].contiguous().view(torch.float32).view(-1).index_select(0, sel)
            wx.wait()
            xs = rows(xa, tok)
            z = gmm(xs, w1.transpose(-2, -1), offs)
            y = gmm(swiglu_fwd(z, ss), w2.transpose(-2, -1), offs)
            part = gather_sum_masked(y, inv, comm.W * T, K)
            out, w = comm.rs(part)
            w.wait()
            ctx.save_for_backward(sel, tok, inv, offs, xs, z, ss, w1, w2)
            ctx.meta = (cfg, T, K, s.dtype)
            return out

        @staticmethod
        def backward(ctx, do):
            cfg, T, K, sdt = ctx.meta
            comm = cfg.comm
            sel, tok, inv, offs, xs, z, ss, w1, w2 = ctx.saved_tensors
            doa, w = comm.ag(do.contiguous())
            w.wait()
            dy = rows(doa, tok)
            dz, as_, ds = swiglu_bwd(z, gmm(dy, w2, offs), ss)
            part = gather_sum_masked(gmm(dz, w1, offs), inv, comm.W * T, K)
            dx, wdx = comm.rs(part)
            dsa = torch.zeros(comm.W * T * K, dtype=torch.float32, device=do.device)
            dsa[sel] = ds
            dsa = dsa.view(comm.W * T, K)
            dso, wds = comm.rs(dsa)
            if not cfg.ov:
                wdx.wait()
                wds.wait()
            dw2 = gmm(dy.t(), as_, offs)
            dw1 = gmm(dz.t(), xs, offs)
            wdx.wait()
            wds.wait()
            return None, dx, dso.to(sdt), None, dw1, dw2

    def build(variant, comm, d):
        """-> cfg, fn() -> y, tensors to differentiate (x, s, W1..., W2...)."""
        kind, C, by, ov = VARIANTS[variant]
        T, H, I, E, K = d["shape"]
        cfg = Cfg(comm, E, C, by, ov)
        if kind == "ag":
            diff = [d["x"], d["s"], d["w1"], d["w2"]]
            return cfg, (lambda: AG.apply(cfg, d["x"], d["s"], d["idx"], d["w1"], d["w2"])), diff
        ws = [d["w1"], d["w2"]]
        if by == "exp":  # one parameter per group of local experts (views of the same memory)
            g = cfg.El // C
            ws = [w[c * g : (c + 1) * g].detach().requires_grad_() for w in ws for c in range(C)]
        return cfg, (lambda: EP.apply(cfg, d["x"], d["s"], d["idx"], *ws)), [d["x"], d["s"]] + ws

    def unpack(g):
        n = (len(g) - 2) // 2
        return dict(dx=g[0], ds=g[1], dw1=torch.cat(g[2 : 2 + n]), dw2=torch.cat(g[2 + n :]))

    def experts(d, xs, ss, offs, dy):
        """The compute bound: gmm_fused's kernels on rows already dispatched and sorted."""
        w1, w2 = d["w1"].detach(), d["w2"].detach()

        def fwd():
            z = gmm(xs, w1.transpose(-2, -1), offs)
            return z, gmm(swiglu_fwd(z, ss), w2.transpose(-2, -1), offs)

        def both():
            z, _ = fwd()
            dz, as_, ds = swiglu_bwd(z, gmm(dy, w2, offs), ss)
            return ds, gmm(dz, w1, offs), gmm(dy.t(), as_, offs), gmm(dz.t(), xs, offs)

        return fwd, both

    def make(shape, rank, W, device, dtype):
        T, H, I, E, K = shape
        torch.manual_seed(1000 + rank)
        d = dict(shape=shape)
        d["x"] = torch.randn(T, H, device=device, dtype=dtype).requires_grad_()
        d["w1"] = torch.empty(E // W, 2 * I, H, device=device, dtype=dtype).normal_(0, 0.02).requires_grad_()
        d["w2"] = torch.empty(E // W, H, I, device=device, dtype=dtype).normal_(0, 0.02).requires_grad_()
        lg, ix = torch.randn(T, E, device=device).topk(K, dim=-1)
        d["idx"] = ix.int().contiguous()
        d["s"] = lg.softmax(-1).to(dtype).requires_grad_()
        d["dy"] = torch.randn(T, H, device=device, dtype=dtype)
        return d

    _layers.update(locals())
    return _layers


# ----------------------------------------------------------------------------------------------------------------
# worker side: one rank
# ----------------------------------------------------------------------------------------------------------------
def emit(**k):
    sys.stdout.write("@@" + json.dumps(k) + "\n")
    sys.stdout.flush()


def rel(a, b):
    return float((a.float() - b.float()).norm() / (b.float().norm() + 1e-20))


class Rank:
    def __init__(self, a):
        import datetime

        self.cpu, self.args = a["cpu"], a
        self.rank, self.W = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        t0 = time.time()
        import torch
        import torch.distributed as dist

        self.torch, self.dist = torch, dist
        self.dev = "cpu" if self.cpu else f"cuda:{self.rank}"
        self.dt = torch.float32 if self.cpu else torch.bfloat16
        to = self.timeout = datetime.timedelta(seconds=PG_TIMEOUT_S)
        self.store = dist.TCPStore("127.0.0.1", int(os.environ["EX_PORT"]), self.W, self.rank == 0, timeout=to)
        self.scope, self.n = "init", 0
        if self.cpu:
            torch.set_num_threads(1)
            dist.init_process_group("gloo", init_method="env://", timeout=to)
            groups = {"f": None}
        else:
            torch.cuda.set_device(self.rank)
            tot = torch.cuda.get_device_properties(self.rank).total_memory
            torch.cuda.set_per_process_memory_fraction(min(0.95, MEM_GIB * 2**30 / tot))
            dist.init_process_group("nccl", init_method="env://", timeout=to, pg_options=self.options())
            groups = {"f": None}
            if a["tune"] and a["second_comm"]:
                try:
                    o = self.options()
                    o.config.max_ctas = 16
                    groups["m16"] = dist.new_group(list(range(self.W)), backend="nccl", timeout=to, pg_options=o)
                except (AttributeError, TypeError) as e:  # the same software on every rank: all take this way or none
                    log(f"no second communicator: {e}")
            for g in groups.values():
                dist.all_reduce(torch.ones(8, device=self.dev), group=g)
            torch.cuda.synchronize()
        self.comms = {k: Comm(dist, torch, g, self.rank, self.W) for k, g in groups.items()}
        self.carve = getattr(torch._C, "_set_sm_carveout_experimental", None) if not self.cpu else None
        self.cands = [("f", 0)]
        if a["tune"] and not self.cpu:
            if self.carve:
                self.cands.append(("f", 32))
            if "m16" in self.comms:
                self.cands.append(("m16", 16 if self.carve else 0))
        self.L = layers()
        if not self.cpu and self.L["triton"] is None:
            raise RuntimeError("Triton cannot be imported: this would not be the baseline")
        self.cur = self.d = None
        v = "torch " + torch.__version__
        if not self.cpu:
            v += ", NCCL " + ".".join(map(str, torch.cuda.nccl.version()))
        emit(ready=self.rank, s=round(time.time() - t0, 1), cands=self.cands, v=v)

    def options(self):
        o = self.dist.ProcessGroupNCCL.Options()
        o.is_high_priority_stream = True
        o._timeout = self.timeout
        return o

    def exchange(self, obj, key=None):
        """All ranks' small objects, over TCP on the host: also a barrier.  Never touches the GPU."""
        if key is None:
            self.n += 1
            key = f"{self.scope}.{self.n}"
        self.store.set(f"{key}/{self.rank}", json.dumps(obj))
        return [json.loads(self.store.get(f"{key}/{r}")) for r in range(self.W)]

    def sync(self):
        if not self.cpu:
            self.torch.cuda.synchronize()

    def barrier(self):
        self.sync()
        if self.cpu:
            self.dist.barrier()
        else:
            self.dist.barrier(device_ids=[self.rank])
            self.sync()

    def run(self, fn, n, warm):
        """Times of n iterations, ms."""
        for _ in range(warm):
            fn()
        self.barrier()
        if self.cpu:
            ts = []
            for _ in range(n):
                t = time.perf_counter()
                fn()
                ts.append((time.perf_counter() - t) * 1e3)
            return ts
        Ev = self.torch.cuda.Event
        ev = [(Ev(enable_timing=True), Ev(enable_timing=True)) for _ in range(n)]
        for s, e in ev:
            s.record()
            fn()
            e.record()
        self.torch.cuda.synchronize()
        return [s.elapsed_time(e) for s, e in ev]

    def quick(self, fn):
        """A rough time that all ranks agree on (the slowest rank's)."""
        t = sorted(self.run(fn, 3, 1))
        return max(self.exchange(t[1]))

    def timed(self, fn, t=None):
        t = self.quick(fn) if t is None else t
        n = int(max(10, min(30, self.args["iter_ms"] / max(t, 1e-3))))
        return [round(v, 5) for v in self.run(fn, n, 3)]

    def use(self, cfg, cand):
        cfg.comm = self.comms[cand[0]]
        if self.carve:
            self.carve(cand[1] or None)

    # ---- tasks ----
    def check(self, variant):
        torch, L = self.torch, self.L
        T, H, I, E, K = CPU_CHECK if self.cpu else CHECK
        T -= T % 4
        g = L["L"]["make"]((T * self.W, H, I, E, K), self.dev, self.dt, seed=7)  # the same on every rank
        sums = [float(v) for v in (g["x"].double().sum(), g["w1"].double().abs().sum(), g["idx"].sum(), g["dy"].double().sum())]
        if any(o != sums for o in self.exchange(sums)):
            raise AssertionError("the ranks drew different inputs")
        ref = L["L"]["reference"](g)
        El, r = E // self.W, self.rank
        tk, ex = slice(r * T, (r + 1) * T), slice(r * El, (r + 1) * El)
        d = dict(shape=(T, H, I, E, K), idx=g["idx"][tk].contiguous(), dy=g["dy"][tk].contiguous())
        for k, sl in (("x", tk), ("s", tk), ("w1", ex), ("w2", ex)):
            d[k] = g[k].detach()[sl].clone().requires_grad_()
        worst = {}
        for cand in self.cands if VARIANTS[variant][3] else self.cands[:1]:  # every configuration that may be timed
            cfg, fn, diff = L["build"](variant, self.comms["f"], d)
            self.use(cfg, cand)
            y = fn()
            got = L["unpack"](torch.autograd.grad(y, diff, d["dy"]))
            got["y"] = y.detach()
            for k, sl in (("y", tk), ("dx", tk), ("dw1", ex), ("dw2", ex), ("ds", tk)):
                e = rel(got[k], ref[k][sl])
                worst[k] = max(worst.get(k, 0.0), e) if e == e else float("nan")
        return worst

    def data(self, shape):
        if self.cur != shape:
            self.d = None
            if not self.cpu:
                self.torch.cuda.empty_cache()
            self.d = self.L["make"]((CPU_SHAPES if self.cpu else SHAPES)[shape], self.rank, self.W, self.dev, self.dt)
            self.cur = shape
        return self.d

    def bounds(self, shape):
        torch, L = self.torch, self.L
        d = self.data(shape)
        T, H, I, E, K = d["shape"]
        comm = self.comms["f"]
        cfg = Cfg(comm, E)
        self.use(cfg, self.cands[0])
        x, dy0 = d["x"].detach(), d["dy"]
        with torch.no_grad():
            order, inv, tok, recv, splits = L["route"](cfg, d["idx"])
            ins, outs, sb, rb = splits()
            i, o = ins[0], outs[0]
            perm, back, offs = L["layout"](cfg, recv, rb)
            xp = x.index_select(0, tok)
            sp = d["s"].detach().reshape(-1)[order].float()
            xr, sr = torch.empty(rb[-1], H, dtype=x.dtype, device=x.device), torch.empty(rb[-1], device=x.device)
            yr, dsr = torch.empty_like(xp), torch.empty_like(sp)
            disp = lambda: comm.a2a(xr, xp, o, i).wait()  # noqa: E731
            ret = lambda: comm.a2a(yr, xr, i, o).wait()  # noqa: E731
            s_to = lambda: comm.a2a(sr, sp, o, i).wait()  # noqa: E731
            s_back = lambda: comm.a2a(dsr, sr, i, o).wait()  # noqa: E731

            def cf():
                disp(), s_to(), ret()

            def cfb():
                cf(), disp(), s_back(), ret()

            meta = torch.cat([d["idx"], d["s"].detach().float().view(torch.int32)], 1)
            part = torch.randn(self.W * T, H, dtype=x.dtype, device=x.device)
            dsa = torch.randn(self.W * T, K, device=x.device)

            def ag1(t):
                comm.ag(t)[1].wait()

            def rs1(t):
                comm.rs(t)[1].wait()

            def agf():
                ag1(meta), ag1(x), rs1(part)

            def agfb():
                agf(), ag1(dy0), rs1(part), rs1(dsa)

            r = dict(disp=self.timed(disp), ret=self.timed(ret), cf=self.timed(cf), cfb=self.timed(cfb),
                     ag=self.timed(lambda: ag1(x)), rs=self.timed(lambda: rs1(part)), agf=self.timed(agf), agfb=self.timed(agfb))
            row = H * x.element_size()
            r["sent_mb"] = (sum(i) - i[self.rank]) * row / 1e6
            r["ag_mb"] = (self.W - 1) * T * row / 1e6
            disp(), s_to()
            xs, ss = xr.index_select(0, perm), sr.index_select(0, perm)
            dyr = torch.randn_like(xs)
            meta_all, w = comm.ag(meta)
            w.wait()
            del xp, yr, part, dsa, xr
            fwd, both = L["experts"](d, xs, ss, offs[0], dyr)
            r["xf"], r["xfb"] = self.timed(fwd), self.timed(both)
            del xs, ss, dyr, fwd, both
        null = NullComm(comm, recv, meta_all)
        for name, variant in (("l", "plain"), ("al", "allgather")):
            _, fn, diff = L["build"](variant, null, d)
            both = self.both(fn, diff, d)
            r[name + "f"], r[name + "fb"] = self.timed(fn), self.timed(both)
            null.keep.clear()
        r["rows"] = rb[-1]
        return r

    def both(self, fn, diff, d):
        return lambda: self.torch.autograd.grad(fn(), diff, d["dy"])

    def time(self, shape, variant):
        torch, L = self.torch, self.L
        d = self.data(shape)
        cfg, fn, diff = L["build"](variant, self.comms["f"], d)
        both = self.both(fn, diff, d)
        cands = self.cands if VARIANTS[variant][3] else self.cands[:1]
        tf, tb = [], []
        for c in cands:
            self.use(cfg, c)
            tf.append(self.quick(fn))
            tb.append(self.quick(both))
        jf, jb = tf.index(min(tf)), tb.index(min(tb))  # the exchanged times are the same on every rank: so is the choice
        self.use(cfg, cands[jf])
        f = self.timed(fn, tf[jf])
        self.use(cfg, cands[jb])
        fb = self.timed(both, tb[jb])
        mem = 0.0
        if not self.cpu:
            torch.cuda.reset_peak_memory_stats()
            both()
            self.sync()
            mem = torch.cuda.max_memory_allocated() / 2**30
        return dict(f=f, fb=fb, cand_f="%s/%d" % cands[jf], cand_fb="%s/%d" % cands[jb], mem=mem, tried_f=tf, tried_fb=tb)

    def loop(self, tasks):
        import gc

        for t in tasks:
            self.scope, self.n = f"t{t['id']}", 0
            emit(start=t["id"], rank=self.rank)
            err = ""
            try:
                if t["kind"] == "check":
                    r = self.check(t["variant"])
                elif t["kind"] == "bounds":
                    r = self.bounds(t["shape"])
                else:
                    r = self.time(t["shape"], t["variant"])
                self.sync()
                emit(id=t["id"], rank=self.rank, data=r)
            except Exception as e:  # noqa: BLE001
                err = f"{type(e).__name__}: {e}".replace("\n", " ")[:240]
                if self.rank == 0 or "drew different" not in err:
                    log(f"--- rank {self.rank} {t}\n{traceback.format_exc()[-2500:]}")
                emit(id=t["id"], rank=self.rank, err=err)
            if self.carve:
                self.carve(None)
            r = None
            gc.collect()
            if not self.cpu and not err:
                self.torch.cuda.empty_cache()
            states = self.exchange(err[:60], f"end{t['id']}")
            if any(states):
                low = " ".join(states).lower()
                if len(set(states)) > 1 or any(w in low for w in ("memory", "cuda", "nccl", "accelerator", "backend", "timeout", "timed")):
                    sys.stdout.flush()
                    os._exit(5)  # the ranks may be out of step, or a context broken: the parent starts fresh ones
                if not self.cpu:
                    self.torch.cuda.empty_cache()
        emit(end=self.rank)
        sys.stdout.flush()
        os._exit(0)  # no tear-down that could hang


def worker(a):
    ppid = os.getppid()

    def watch():
        while True:
            time.sleep(0.5)
            if time.time() > a["deadline"] + 5 or os.getppid() != ppid:
                os._exit(9)

    threading.Thread(target=watch, daemon=True).start()
    try:
        Rank(a).loop(a["tasks"])
    except BaseException as e:  # noqa: BLE001
        log(f"--- rank {os.environ.get('RANK')} ended\n{traceback.format_exc()[-3000:]}")
        emit(fatal=f"{type(e).__name__}: {e}".replace("\n", " ")[:240], rank=int(os.environ.get("RANK", -1)))
        sys.stdout.flush()
        os._exit(6)


# ----------------------------------------------------------------------------------------------------------------
# parent side (no torch)
# ----------------------------------------------------------------------------------------------------------------
def free_ports(n):
    ss = [socket.socket() for _ in range(n)]
    for s in ss:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in ss]
    for s in ss:
        s.close()
    return ports


def launch(W, tasks, args, deadline, cautious):
    """cautious (after a failed start): no second communicator, and NCCL chooses its own bootstrap interface."""
    p1, p2 = free_ports(2)
    a = dict(tasks=tasks, cpu=bool(args.selftest_cpu), tune=not args.no_tune, iter_ms=args.iter_ms, deadline=deadline,
             second_comm=not cautious)
    procs = []
    for r in range(W):
        env = dict(os.environ)
        env.update(RANK=str(r), LOCAL_RANK=str(r), WORLD_SIZE=str(W), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(p1),
                   EX_PORT=str(p2), NCCL_NVLS_ENABLE="0", TORCH_SYMM_MEM_DISABLE_MULTICAST="1", NVSHMEM_DISABLE_NVLS="1",
                   TORCH_NCCL_DUMP_ON_TIMEOUT="0", TORCHDYNAMO_DISABLE="1", PYTHONUNBUFFERED="1")
        for k in ("CUDA_LAUNCH_BLOCKING", "TORCH_NCCL_BLOCKING_WAIT", "NCCL_BLOCKING_WAIT", "CUDA_DEVICE_MAX_CONNECTIONS"):
            env.pop(k, None)
        if not cautious:
            env.setdefault("NCCL_SOCKET_IFNAME", "lo")
            env.setdefault("GLOO_SOCKET_IFNAME", "lo")
        env.setdefault("OMP_NUM_THREADS", "4")
        env.setdefault("TRITON_CACHE_DIR", "/tmp/bench_peers_triton")
        # same process group as this script, so whatever kills the script's group kills the ranks too
        p = subprocess.Popen(args.worker_cmd + ["--worker", json.dumps(a)], env=env, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, bufsize=0)
        procs.append(p)
    return procs


def kill_all(procs):
    for p in procs:
        if p.poll() is None:
            p.kill()  # only the ranks this script started
    for p in procs:
        try:
            p.wait(10)
        except subprocess.TimeoutExpired:
            log(f"rank process {p.pid} does not end")
        if p.stdout:
            p.stdout.close()


def run_phase(W, tasks, args, deadline, record):
    """Runs the tasks with W ranks; whatever a rank does, no task takes longer than its limit and the ranks stay in step."""
    todo, bad_starts, restarts, fails = list(tasks), 0, 0, {}
    while todo and time.time() < deadline - 3 and bad_starts < 2 and restarts <= args.restarts:
        t_start = last = time.time()
        procs = launch(W, todo, args, deadline, bad_starts > 0)
        sel = selectors.DefaultSelector()
        bufs = {}
        for r, p in enumerate(procs):
            os.set_blocking(p.stdout.fileno(), False)
            sel.register(p.stdout, selectors.EVENT_READ, r)
            bufs[r] = b""
        got, ready, started, ended = {}, set(), set(), set()
        closed_at = err_at = first = why = None  # first: the first error heard for the task under way
        done = 0  # tasks finished by these processes
        while True:
            for key, _ in sel.select(0.25):
                r = key.data
                try:
                    c = os.read(key.fileobj.fileno(), 65536)
                except BlockingIOError:
                    continue
                if c == b"":
                    sel.unregister(key.fileobj)
                    if r not in ended and closed_at is None:
                        closed_at = time.time()
                    continue
                bufs[r] += c
                while b"\n" in bufs[r]:
                    line, bufs[r] = bufs[r].split(b"\n", 1)
                    if not line.startswith(b"@@"):
                        continue
                    try:
                        o = json.loads(line[2:])
                    except ValueError:
                        continue
                    if "ready" in o:
                        ready.add(r)
                        last = time.time()
                        if len(ready) == W:
                            args.versions = o["v"]
                            log(f"[W={W}] {o['v']}, ranks ready in {time.time() - t_start:.1f} s, configurations {o['cands']}")
                    elif "start" in o:
                        started.add(o["start"])
                        last = time.time()
                    elif "end" in o:
                        ended.add(r)
                    elif "fatal" in o:
                        why = why or f"rank {r}: {o['fatal']}"
                    elif todo and o.get("id") == todo[0]["id"]:
                        got[r] = o
                        last = time.time()
                        if "err" in o and err_at is None:
                            err_at, first = time.time(), f"rank {r}: {o['err']}"
                        if len(got) == W:
                            t = todo.pop(0)
                            record(W, t, None if first else [got[q]["data"] for q in range(W)], first)
                            if first and t["variant"]:
                                fails[t["variant"]] = fails.get(t["variant"], 0) + 1
                            got, err_at, first, why = {}, None, None, None
                            done += 1
            now = time.time()
            if len(ended) == W or not todo:
                break
            limit = args.task_s if done else args.start_s  # the first task also compiles and loads kernels
            if now > deadline - 1:
                why = "out of time"
                break
            if err_at and now - err_at > 10:
                why = first + " (the other ranks hung)"
                break
            if closed_at and now - closed_at > 2:
                why = why or "a rank died (rc %s)" % [p.poll() for p in procs]
                break
            if now - last > limit:
                why = f"no answer in {limit:.0f} s"
                break
        sel.close()
        rcs = [p.poll() for p in procs]
        kill_all(procs)
        if todo and why != "out of time":
            if len(ready) < W:
                bad_starts += 1
                log(f"[W={W}] start failed: {why}")
                if bad_starts == 2:
                    for t in todo:
                        record(W, t, None, f"ranks did not start: {why}")
                    return
            else:
                restarts += 1
                if todo[0]["id"] in started:  # else they ended on their own after a failed task, which is recorded
                    t = todo.pop(0)
                    e = first or why or "the ranks ended"
                    if "rc" not in e and any(c not in (None, 0, 5, 6) for c in rcs):
                        e += f" (rc {rcs})"
                    record(W, t, None, e)
                    if t["variant"]:
                        fails[t["variant"]] = fails.get(t["variant"], 0) + 1
            for v, n in fails.items():
                if n >= 2:
                    for t in [t for t in todo if t["variant"] == v]:
                        todo.remove(t)
                        record(W, t, None, "skipped: this variant failed twice")
    for t in todo:
        record(W, t, None, "not run: " + ("out of time" if time.time() >= deadline - 3 else "too many restarts"))


def med_of_max(lists):
    m = sorted(max(v) for v in zip(*lists))
    return m[len(m) // 2] if len(m) % 2 else (m[len(m) // 2 - 1] + m[len(m) // 2]) / 2


def reduce_task(t, datas):
    """Per-iteration maximum over ranks, then the median."""
    r = {}
    for k in datas[0]:
        v = [d[k] for d in datas]
        if k.startswith("tried"):
            r[k] = v[0]
        elif isinstance(v[0], list):
            r[k] = med_of_max(v)
        elif isinstance(v[0], str):
            r[k] = v[0]
        elif k in ("sent_mb", "ag_mb"):
            r[k] = sum(v) / len(v)
        else:
            r[k] = max(v) if all(x == x for x in v) else float("nan")
    return r


def over(comm, comp, t):
    return 100.0 * (comm + comp - t) / min(comm, comp)


def table(res, ws, shapes, dims, variants, head):
    get = {(r["W"], r["kind"], r["shape"], r["variant"]): r for r in res}
    out = [head]
    out.append("check against one float32 reference of the global problem, worst rank and configuration (bf16 rounding alone: 0.003-0.01):")
    for W in ws:
        for v in variants:
            r = get.get((W, "check", None, v))
            if r is None:
                continue
            if "error" in r:
                out.append(f" W{W} {v:12s} ERROR {r['error'][:90]}")
            else:
                ok = all(r[k] < (0.05 if k == "ds" else 0.02) for k in ("y", "dx", "dw1", "dw2", "ds"))  # NaN fails
                out.append(f" W{W} {v:12s} {'ok' if ok else 'FAIL'} " + " ".join(f"{k} {r[k]:.4f}" for k in ("y", "dx", "dw1", "dw2", "ds")))
    out.append("ms (TF/s per rank); ov = (t_comm+t_experts-t)/min(..) %, ovL with t_local for t_experts; cfg = communicator/SMs left free")
    out.append("%-12s %7s %4s %4s %4s %8s %4s %4s %4s %-13s %s" % ("variant", "fwd", "TF/s", "ov", "ovL", "fwd+bwd", "TF/s", "ov", "ovL", "cfg f,fb", "GiB"))
    for W in ws:
        for s in shapes:
            T, H, I, E, K = dims[s]
            fl = 6.0 * T * K * H * I
            b = get.get((W, "bounds", s, None))
            line = f"== W{W} {s} T{T} H{H} I{I} E{E} K{K}"
            if b is None or "error" in b:
                out.append(line + (" bounds: " + b["error"][:80] if b else ""))
                b = None
            else:
                out.append(line + " | a2a out %.0f MB %.3f ms %.0f GB/s, back %.3f | AG %.0f MB %.3f ms %.0f GB/s, RS %.3f" % (
                    b["sent_mb"], b["disp"], b["sent_mb"] / b["disp"], b["ret"], b["ag_mb"], b["ag"], b["ag_mb"] / b["ag"], b["rs"]))
                out.append("   f/fb: comm %.2f/%.2f, AG %.2f/%.2f | experts %.2f/%.2f = %.0f/%.0f TF/s | local %.2f/%.2f, AG %.2f/%.2f" % (
                    b["cf"], b["cfb"], b["agf"], b["agfb"], b["xf"], b["xfb"], fl / b["xf"] / 1e9, 3 * fl / b["xfb"] / 1e9,
                    b["lf"], b["lfb"], b["alf"], b["alfb"]))
            for v in variants:
                r = get.get((W, "time", s, v))
                if r is None:
                    continue
                if "error" in r:
                    out.append("%-12s %s" % (v, "ERROR " + r["error"][:70]))
                    continue
                o = ["-"] * 4
                if b:
                    p, q = ("agf", "agfb"), ("alf", "alfb")
                    if VARIANTS[v][0] == "a2a":
                        p, q = ("cf", "cfb"), ("lf", "lfb")
                    o = ["%.0f" % z for z in (over(b[p[0]], b["xf"], r["f"]), over(b[p[0]], b[q[0]], r["f"]),
                                              over(b[p[1]], b["xfb"], r["fb"]), over(b[p[1]], b[q[1]], r["fb"]))]
                cfg = r["cand_f"] + " " + r["cand_fb"] if VARIANTS[v][3] else "-"
                out.append("%-12s %7.3f %4.0f %4s %4s %8.3f %4.0f %4s %4s %-13s %.1f" % (
                    v, r["f"], fl / r["f"] / 1e9, o[0], o[1], r["fb"], 3 * fl / r["fb"] / 1e9, o[2], o[3], cfg, r["mem"]))
    return "\n".join(out)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--ws", default="4,2", help="numbers of ranks, in this order")
    ap.add_argument("--shapes", default="")
    ap.add_argument("--variants", default=",".join(VARIANTS))
    ap.add_argument("--budget", type=float, default=300.0, help="seconds for everything, start and compilation included")
    ap.add_argument("--iter-ms", type=float, default=250.0, help="measuring time per number (10 to 30 iterations)")
    ap.add_argument("--task-s", type=float, default=45.0, help="limit for one shape and variant")
    ap.add_argument("--start-s", type=float, default=100.0, help="limit for starting the ranks")
    ap.add_argument("--restarts", type=int, default=5, help="fresh starts of the ranks after failures, per W")
    ap.add_argument("--no-tune", action="store_true", help="overlapped variants use the default communicator and all SMs")
    ap.add_argument("--no-bounds", action="store_true")
    ap.add_argument("--selftest-cpu", action="store_true")
    ap.add_argument("--worker")
    args = ap.parse_args()
    if args.worker:
        return worker(json.loads(args.worker))
    t0 = time.time()
    deadline = t0 + args.budget
    args.worker_cmd = [sys.executable, os.path.abspath(__file__)]
    dims = CPU_SHAPES if args.selftest_cpu else SHAPES
    shapes = [s for s in (args.shapes or ",".join(dims)).split(",") if s]
    variants = [v for v in args.variants.split(",") if v]
    ws = [int(w) for w in args.ws.split(",") if w]
    for s in shapes:
        if s not in dims:
            ap.error("unknown shape " + s)
    for v in variants:
        if v not in VARIANTS:
            ap.error("unknown variant " + v)
    try:
        names = subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"], check=True,
                               capture_output=True, text=True, timeout=20).stdout.strip().split("\n")
        gpu, n_gpu = f"{len(names)} x {names[0]}", len(names)
    except Exception as e:  # noqa: BLE001
        gpu, n_gpu = f"nvidia-smi: {type(e).__name__}", None
    args.versions = ""
    res, raw, head = [], [], ""
    dst = os.path.join(os.environ.get("OUT") or HERE, "ep_results.json")

    def save():
        try:
            with open(dst + ".part", "w") as f:
                json.dump(dict(head=head, args=vars(args), shapes=dims, results=res, raw=raw), f)
            os.replace(dst + ".part", dst)
        except OSError as e:
            log("results not written:", e)

    def record(W, t, datas, err):
        r = dict(W=W, kind=t["kind"], shape=t["shape"], variant=t["variant"])
        if err:
            r["error"] = err
        else:
            r.update(reduce_task(t, datas))
            raw.append(dict(W=W, kind=t["kind"], shape=t["shape"], variant=t["variant"], ranks=datas))
        res.append(r)
        log(f"[{time.time() - t0:5.1f} s] " + json.dumps(r)[:260])
        save()

    for W in list(ws):
        if n_gpu is not None and W > n_gpu and not args.selftest_cpu:
            log(f"W={W} left out: {n_gpu} GPUs here")
            ws.remove(W)
            continue
        tasks = []
        for v in variants:
            if fits(v, (CPU_CHECK if args.selftest_cpu else CHECK)[3] // W):
                tasks.append(dict(kind="check", shape=None, variant=v))
        for s in shapes:
            if not args.no_bounds:
                tasks.append(dict(kind="bounds", shape=s, variant=None))
            tasks += [dict(kind="time", shape=s, variant=v) for v in variants if fits(v, dims[s][3] // W)]
        for i, t in enumerate(tasks):
            t["id"] = i
        run_phase(W, tasks, args, deadline, record)
    head = f"{gpu} | {args.versions} | {time.time() - t0:.0f} s | bf16, uniform random routing, per-iteration max over ranks, median"
    save()
    text = table(res, ws, shapes, dims, variants, head)
    try:
        with open(os.path.join(os.path.dirname(dst), "ep_table.txt"), "w") as f:
            f.write(text + "\n")
    except OSError as e:
        log("table not written:", e)
    print("\n" + text, flush=True)
    if args.selftest_cpu:
        bad = [r for r in res if "error" in r or (r["kind"] == "check" and not all(r[k] < 1e-5 for k in ("y", "dx", "dw1", "dw2", "ds")))]
        print("selftest:", "FAIL " + json.dumps(bad)[:1500] if bad else f"ok ({len(res)} tasks)")
        sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
