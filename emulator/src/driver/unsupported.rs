//! Functions that cudarc, cust and candle can name but that the emulator does not offer: each says so.

use super::code::Code;

/// Declares functions that answer `CUDA_ERROR_NOT_SUPPORTED` whatever they are given. In the C calling conventions of the
/// platforms CUDA runs on, the caller clears the arguments away, so that they need no declaration here.
macro_rules! not_supported {
    ($($name:ident)*) => {$(
        // SAFETY: the name is the CUDA driver's own; this library takes the driver's place, and nothing else in it uses the name.
        #[unsafe(no_mangle)]
        extern "C" fn $name() -> Code {
            Code::NOT_SUPPORTED
        }
    )*};
}

not_supported! {
    // managed memory, memory pools, peers, imported memory
    cuMemAllocManaged cuMemAdvise cuMemAdvise_v2 cuMemPrefetchAsync cuMemPrefetchAsync_v2 cuMemRangeGetAttribute cuStreamAttachMemAsync
    cuDeviceGetMemPool cuDeviceSetMemPool cuMemPoolCreate cuMemPoolDestroy cuMemPoolTrimTo
    cuMemPoolGetAttribute cuMemPoolSetAttribute cuMemAllocFromPoolAsync cuCtxEnablePeerAccess cuCtxDisablePeerAccess cuMemcpyPeer
    cuImportExternalMemory cuDestroyExternalMemory cuExternalMemoryGetMappedBuffer
    cuMemAllocPitch // the form with 32-bit addresses
    // arrays, textures, surfaces
    cuArrayCreate_v2 cuArrayDestroy cuArray3DCreate_v2 cuArray3DGetDescriptor_v2 cuMemcpyAtoH_v2 cuMemcpyHtoA_v2 cuMemcpyAtoD_v2 cuMemcpyDtoA_v2
    cuTexObjectCreate cuTexObjectDestroy cuTexObjectGetResourceDesc cuTexObjectGetResourceViewDesc
    cuSurfObjectCreate cuSurfObjectDestroy cuSurfObjectGetResourceDesc
    // linking of several modules
    cuLinkCreate_v2 cuLinkAddData_v2 cuLinkAddFile_v2 cuLinkComplete cuLinkDestroy
    // graph nodes as objects
    cuGraphAddKernelNode cuGraphAddKernelNode_v2 cuGraphDebugDotPrint cuGraphGetEdges cuGraphKernelNodeGetParams
    cuGraphKernelNodeGetParams_v2 cuGraphNodeGetType cuGraphExecUpdate_v2
    // clusters, grid-wide cooperation, tensor maps
    cuLaunchCooperativeKernel cuOccupancyMaxActiveClusters cuOccupancyMaxPotentialClusterSize
    cuTensorMapEncodeTiled cuTensorMapEncodeIm2col cuTensorMapReplaceAddress
}
