# SPDX-License-Identifier: Apache-2.0
# A Spack recipe is Python by nature; nothing of the product is.
import os

from spack.package import *


class ClipCid(MakefilePackage):
    """CLIP distillation at LAION scale as small Unix tools in C."""

    homepage = "https://arxiv.org/abs/2408.09441"
    # This repository lies in a checkout, which is what is built: packaging/spack/packages/clip-cid.
    git = "file://" + os.path.abspath(os.path.join(os.path.dirname(__file__), *[".."] * 4))
    license("Apache-2.0")
    version("main", branch="main")

    variant("cuda", default=False, description="the CUDA device")
    variant("faiss", default=False, description="FAISS as another engine of kmeans-cluster")
    variant("remote", default=True, description="shards on S3 stores and web servers")
    variant("sentencepiece", default=False, description="tokenizers of SigLIP, Gemma and mT5")

    depends_on("c", type="build")
    depends_on("cxx", type="build")
    depends_on("pkgconfig", type="build")
    depends_on("gmake@4.2:", type=("build", "run"))
    depends_on("libarchive")
    depends_on("libjpeg-turbo")
    depends_on("libwebp")
    depends_on("utf8proc")
    depends_on("cjson")
    depends_on("zlib-api")
    depends_on("xxhash")
    depends_on("openblas")
    depends_on("onednn@2.6:3")
    depends_on("perl", type="run")
    depends_on("cuda@12:", when="+cuda")
    depends_on("faiss~python", when="+faiss")
    depends_on("curl", when="+remote")
    depends_on("openssl", when="+remote")
    depends_on("sentencepiece", when="+sentencepiece")

    def flags(self):
        spec = self.spec
        yes = lambda name: "yes" if spec.satisfies("+" + name) else "no"
        given = [
            "FAISS=" + ("1" if spec.satisfies("+faiss") else "0"),
            "remote=" + yes("remote"),
            "sentencepiece=" + yes("sentencepiece"),
        ]
        if spec.satisfies("+cuda"):
            given += ["CUDA=1", "NVCC=" + join_path(spec["cuda"].prefix.bin, "nvcc")]
        return given

    def build(self, spec, prefix):
        make(*self.flags())

    def install(self, spec, prefix):
        make("install", "PREFIX=" + prefix, *self.flags())
