# SPDX-License-Identifier: BSD-3-Clause
# polyreme_gpu_objects(NAME FOLDER SOURCES...): kernels for each back end that can be built here, as shared
# objects FOLDER/NAME_cuda.so, NAME_hip.so, NAME_emulated.so and NAME_emulated64.so, each with the run time of its
# back end. The target NAME_gpu builds them all. With sanitizers the emulated ones alone.
set(gpu_folder ${CMAKE_SOURCE_DIR}/kernels/gpu)
set(gpu_warnings -Wall -Wextra)
if(POLYREME_WERROR)
    list(APPEND gpu_warnings -Werror)
endif()

set(nvcc_flags -std=c++17 -O3 -fmad=false -Xcompiler -Wall,-Wextra,-fPIC,-fvisibility=hidden
    -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90a,code=sm_90a
    -gencode arch=compute_121,code=compute_121)
if(POLYREME_WERROR)
    list(APPEND nvcc_flags -Werror all-warnings)
endif()
set(hipcc_flags -std=c++17 -O3 -ffp-contract=off ${gpu_warnings} --offload-arch=gfx90a -x hip -fPIC
    -fvisibility=hidden)

# One file by a compiler that CMake does not know: object and list of headers.
function(polyreme_gpu_compile compiler label source object)
    file(RELATIVE_PATH shown ${CMAKE_SOURCE_DIR} ${source})
    add_custom_command(OUTPUT ${object}
        COMMAND ${compiler} ${ARGN} -I${CMAKE_SOURCE_DIR} -MD -MF ${object}.d -c ${source} -o ${object}
        DEPENDS ${source} DEPFILE ${object}.d
        COMMENT "Building ${label} object of ${shown}" VERBATIM)
endfunction()

function(polyreme_gpu_vendor name folder vendor compiler flags link_flags)
    set(objects)
    foreach(source ${ARGN})
        get_filename_component(stem ${source} NAME_WE)
        set(object ${CMAKE_CURRENT_BINARY_DIR}/${name}_${vendor}.dir/${stem}.o)
        polyreme_gpu_compile(${compiler} ${vendor} ${source} ${object} ${flags})
        list(APPEND objects ${object})
    endforeach()
    set(shared ${folder}/${name}_${vendor}.so)
    file(MAKE_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/${name}_${vendor}.dir)
    add_custom_command(OUTPUT ${shared}
        COMMAND ${compiler} -shared ${objects} -o ${shared} ${link_flags}
        DEPENDS ${objects} COMMENT "Linking ${name}_${vendor}.so" VERBATIM)
    add_custom_target(${name}_${vendor} ALL DEPENDS ${shared})
    add_dependencies(${name}_gpu ${name}_${vendor})
endfunction()

function(polyreme_gpu_emulated name folder suffix warp)
    file(GLOB runtime CONFIGURE_DEPENDS ${gpu_folder}/emulate/*.cpp)
    set(target ${name}_emulated${suffix})
    add_library(${target} MODULE ${ARGN} ${runtime} ${gpu_folder}/backend/emulated_backend.cpp)
    set_source_files_properties(${ARGN} PROPERTIES LANGUAGE CXX)
    target_compile_definitions(${target} PRIVATE PR_GPU_EMULATED GPU_WARP=${warp})
    target_compile_options(${target} PRIVATE -fvisibility=hidden -fno-exceptions -fno-rtti)
    target_link_libraries(${target} PRIVATE Threads::Threads)
    set_target_properties(${target} PROPERTIES
        PREFIX "" LIBRARY_OUTPUT_DIRECTORY ${folder} CXX_EXTENSIONS ON)
    add_dependencies(${name}_gpu ${target})
endfunction()

function(polyreme_gpu_objects name folder)
    add_custom_target(${name}_gpu)
    if(POLYREME_NVCC AND NOT POLYREME_SANITIZE AND EXISTS ${gpu_folder}/backend/gpu_backend.cu)
        polyreme_gpu_vendor(${name} ${folder} cuda ${POLYREME_NVCC} "${nvcc_flags}" "-cudart=static"
            ${ARGN} ${gpu_folder}/backend/gpu_backend.cu)
    endif()
    if(POLYREME_HIPCC AND NOT POLYREME_SANITIZE AND EXISTS ${gpu_folder}/backend/gpu_backend.cu)
        polyreme_gpu_vendor(${name} ${folder} hip ${POLYREME_HIPCC} "${hipcc_flags}" "--offload-arch=gfx90a"
            ${ARGN} ${gpu_folder}/backend/gpu_backend.cu)
    endif()
    if(CMAKE_CXX_COMPILER)
        polyreme_gpu_emulated(${name} ${folder} "" 32 ${ARGN})
        polyreme_gpu_emulated(${name} ${folder} 64 64 ${ARGN})
    endif()
endfunction()
